"""Directives of systemd (systemd.directives(7)) and of Quadlet (podman-systemd.unit(5)), by section.

A name that is not here is a mistake: systemd passes it over, and the unit runs without what was meant.
"""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches

from kirsch.unit import Entry, UnitError, UnitFile, UnitName
from kirsch.unit.given import OPTIONS

# Shared by sections that run programs, and by those that have a control group.
_EXEC = """
    AmbientCapabilities AppArmorProfile BindLogSockets BindPaths BindReadOnlyPaths CPUAffinity
    CPUSchedulingPolicy CPUSchedulingPriority CPUSchedulingResetOnFork CacheDirectory
    CacheDirectoryAccounting CacheDirectoryMode CacheDirectoryQuota CapabilityBoundingSet
    ConfigurationDirectory ConfigurationDirectoryMode CoredumpFilter DelegateNamespaces DynamicUser
    Environment EnvironmentFile ExecPaths ExecSearchPath ExecStartPost ExecStartPre ExecStopPost
    ExtensionDirectories ExtensionImagePolicy ExtensionImages FinalKillSignal Group IOSchedulingClass
    IOSchedulingPriority IPCNamespacePath IgnoreSIGPIPE ImportCredential InaccessibleDirectories
    InaccessiblePaths KeyringMode KillMode KillSignal LimitAS LimitCORE LimitCPU LimitDATA LimitFSIZE
    LimitLOCKS LimitMEMLOCK LimitMSGQUEUE LimitNICE LimitNOFILE LimitNPROC LimitRSS LimitRTPRIO
    LimitRTTIME LimitSIGPENDING LimitSTACK LoadCredential LoadCredentialEncrypted LockPersonality
    LogExtraFields LogFilterPatterns LogLevelMax LogNamespace LogRateLimitBurst LogRateLimitIntervalSec
    LogsDirectory LogsDirectoryAccounting LogsDirectoryMode LogsDirectoryQuota MemoryDenyWriteExecute
    MemoryKSM MountAPIVFS MountFlags MountImagePolicy MountImages NUMAMask NUMAPolicy
    NetworkNamespacePath Nice NoExecPaths NoNewPrivileges OOMScoreAdjust PAMName PassEnvironment
    Personality PrivateBPF PrivateDevices PrivateIPC PrivateMounts PrivateNetwork PrivatePIDs PrivateTmp
    PrivateUsers ProcSubset ProtectClock ProtectControlGroups ProtectHome ProtectHostname
    ProtectKernelLogs ProtectKernelModules ProtectKernelTunables ProtectProc ProtectSystem
    ReadOnlyDirectories ReadOnlyPaths ReadWriteDirectories ReadWritePaths RemoveIPC RestartKillSignal
    RestrictAddressFamilies RestrictFileSystems RestrictNamespaces RestrictRealtime RestrictSUIDSGID
    RootDirectory RootEphemeral RootHash RootHashSignature RootImage RootImageOptions RootImagePolicy
    RootVerity RuntimeDirectory RuntimeDirectoryMode RuntimeDirectoryPreserve SELinuxContext SecureBits
    SendSIGHUP SendSIGKILL SetCredential SetCredentialEncrypted SetLoginEnvironment SmackProcessLabel
    StandardError StandardInput StandardInputData StandardInputText StandardOutput StateDirectory
    StateDirectoryAccounting StateDirectoryMode StateDirectoryQuota SupplementaryGroups SyslogFacility
    SyslogIdentifier SyslogLevel SyslogLevelPrefix SystemCallArchitectures SystemCallErrorNumber
    SystemCallFilter SystemCallLog TTYColumns TTYPath TTYReset TTYRows TTYVHangup TTYVTDisallocate
    TemporaryFileSystem TimeoutCleanSec TimeoutSec TimerSlackNSec UMask UnsetEnvironment User
    UserNamespacePath UtmpIdentifier UtmpMode WatchdogSignal WorkingDirectory
"""
_RESOURCES = """
    AllowedCPUs AllowedMemoryNodes BPFProgram BlockIOAccounting BlockIODeviceWeight BlockIOReadBandwidth
    BlockIOWeight BlockIOWriteBandwidth CPUAccounting CPUQuota CPUQuotaPeriodSec CPUShares CPUWeight
    CoredumpReceive DefaultMemoryLow DefaultMemoryMin Delegate DelegateSubgroup DeviceAllow DevicePolicy
    DisableControllers IOAccounting IODeviceLatencyTargetSec IODeviceWeight IOReadBandwidthMax
    IOReadIOPSMax IOWeight IOWriteBandwidthMax IOWriteIOPSMax IPAccounting IPAddressAllow IPAddressDeny
    IPEgressFilterPath IPIngressFilterPath ManagedOOMMemoryPressure ManagedOOMMemoryPressureDurationSec
    ManagedOOMMemoryPressureLimit ManagedOOMPreference ManagedOOMSwap MemoryAccounting MemoryHigh
    MemoryLimit MemoryLow MemoryMax MemoryMin MemoryPressureThresholdSec MemoryPressureWatch
    MemorySwapMax MemoryZSwapMax MemoryZSwapWriteback NFTSet RestrictNetworkInterfaces Slice
    SocketBindAllow SocketBindDeny StartupAllowedCPUs StartupAllowedMemoryNodes StartupBlockIOWeight
    StartupCPUShares StartupCPUWeight StartupIOWeight StartupMemoryHigh StartupMemoryLow StartupMemoryMax
    StartupMemorySwapMax StartupMemoryZSwapMax TasksAccounting TasksMax
"""
_CONDITIONS = """
    ACPower Architecture CPUFeature CPUPressure CPUs Capability ControlGroupController Credential
    DirectoryNotEmpty Environment FileIsExecutable FileNotEmpty Firmware FirstBoot Fraction Group Host
    IOPressure KernelCommandLine KernelModuleLoaded KernelVersion Memory MemoryPressure NeedsUpdate
    OSRelease PathExists PathExistsGlob PathIsDirectory PathIsEncrypted PathIsMountPoint PathIsReadWrite
    PathIsSocket PathIsSymbolicLink Security User Version Virtualization
"""


def _words(*texts: str) -> frozenset[str]:
    return frozenset(word for text in texts for word in text.split())


_OWN = {
    "Unit": _words(
        """
        After AllowIsolate Before BindTo BindsTo CollectMode Conflicts DebugInvocation
        DefaultDependencies Description Documentation FailureAction FailureActionExitStatus
        IgnoreOnIsolate JobRunningTimeoutSec JobTimeoutAction JobTimeoutRebootArgument JobTimeoutSec
        JoinsNamespaceOf OnFailure OnFailureIsolate OnFailureJobMode OnSuccess OnSuccessJobMode
        PartOf PropagateReloadFrom PropagateReloadTo PropagatesReloadTo PropagatesStopTo
        RebootArgument RefuseManualStart RefuseManualStop ReloadPropagatedFrom Requires
        RequiresMountsFor RequiresOverridable Requisite RequisiteOverridable SourcePath
        StartLimitAction StartLimitBurst StartLimitInterval StartLimitIntervalSec StopPropagatedFrom
        StopWhenUnneeded SuccessAction SuccessActionExitStatus SurviveFinalKillSignal Upholds Wants
        WantsMountsFor
        """
    ),
    "Install": _words("Alias Also DefaultInstance RequiredBy UpheldBy WantedBy"),
    "Service": _words(
        """
        BusName ExecCondition ExecReload ExecReloadPost ExecStart ExecStop ExitType FailureAction
        FileDescriptorStoreMax FileDescriptorStorePreserve GuessMainPID NonBlocking NotifyAccess
        OOMPolicy OpenFile PIDFile PermissionsStartOnly RebootArgument RefreshOnReload ReloadSignal
        RemainAfterExit Restart RestartForceExitStatus RestartMaxDelaySec RestartMode
        RestartPreventExitStatus RestartSec RestartSteps RootDirectoryStartOnly RuntimeMaxSec
        RuntimeRandomizedExtraSec Sockets StartLimitAction StartLimitBurst StartLimitInterval
        SuccessExitStatus TimeoutAbortSec TimeoutStartFailureMode TimeoutStartSec
        TimeoutStopFailureMode TimeoutStopSec Type USBFunctionDescriptors USBFunctionStrings
        WatchdogSec
        """
    ),
    "Socket": _words(
        """
        Accept Backlog BindIPv6Only BindToDevice Broadcast DeferAcceptSec DeferTrigger
        DeferTriggerMaxSec DirectoryMode ExecStopPre FileDescriptorName FlushPending FreeBind IPTOS
        IPTTL KeepAlive KeepAliveIntervalSec KeepAliveProbes KeepAliveTimeSec ListenDatagram
        ListenFIFO ListenMessageQueue ListenNetlink ListenSequentialPacket ListenSpecial ListenStream
        ListenUSBFunction Mark MaxConnections MaxConnectionsPerSource MessageQueueMaxMessages
        MessageQueueMessageSize NoDelay PassCredentials PassFileDescriptorsToExec PassPIDFD
        PassPacketInfo PassSecurity PipeSize PollLimitBurst PollLimitIntervalSec Priority
        ReceiveBuffer RemoveOnStop ReusePort SELinuxContextFromNet SendBuffer Service SmackLabel
        SmackLabelIPIn SmackLabelIPOut SocketGroup SocketMode SocketProtocol SocketUser Symlinks
        TCPCongestion Timestamping Transparent TriggerLimitBurst TriggerLimitIntervalSec Writable
        """
    ),
    "Mount": _words(
        """
        DirectoryMode ForceUnmount LazyUnmount Options ReadWriteOnly SloppyOptions TimeoutSec Type What
        Where
        """
    ),
    "Swap": _words("Options Priority TimeoutSec What"),
    "Slice": _words("ConcurrencyHardMax ConcurrencySoftMax"),
    "Scope": _words("OOMPolicy RuntimeMaxSec RuntimeRandomizedExtraSec TimeoutStopSec"),
    "Timer": _words(
        """
        AccuracySec DeferReactivation FixedRandomDelay OnActiveSec OnBootSec OnCalendar OnClockChange
        OnStartupSec OnTimezoneChange OnUnitActiveSec OnUnitInactiveSec Persistent RandomizedDelaySec
        RandomizedOffsetSec RemainAfterElapse Unit WakeSystem
        """
    ),
    "Path": _words(
        """
        DirectoryMode DirectoryNotEmpty MakeDirectory PathChanged PathExists PathExistsGlob
        PathModified TriggerLimitBurst TriggerLimitIntervalSec Unit
        """
    ),
    "Automount": _words("DirectoryMode ExtraOptions TimeoutIdleSec Where"),
    "Container": _words(
        """
        AddCapability AddDevice AddHost Annotation AppArmor AutoUpdate CgroupsMode ContainerName
        ContainersConfModule DNS DNSOption DNSSearch DropCapability Entrypoint Environment
        EnvironmentFile EnvironmentHost Exec ExposeHostPort GIDMap GlobalArgs Group GroupAdd
        HealthCmd HealthInterval HealthLogDestination HealthMaxLogCount HealthMaxLogSize
        HealthOnFailure HealthRetries HealthStartPeriod HealthStartupCmd HealthStartupInterval
        HealthStartupRetries HealthStartupSuccess HealthStartupTimeout HealthTimeout HostName
        HttpProxy IP IP6 Image Label LogDriver LogOpt Mask Memory Mount Network NetworkAlias
        NoNewPrivileges Notify PidsLimit Pod PodmanArgs PublishPort Pull ReadOnly ReadOnlyTmpfs
        ReloadCmd ReloadSignal RemapGid RemapUid RemapUidSize RemapUsers Retry RetryDelay Rootfs
        RunInit SeccompProfile Secret SecurityLabelDisable SecurityLabelFileType SecurityLabelLevel
        SecurityLabelNested SecurityLabelType ServiceName ShmSize StartWithPod StopSignal StopTimeout
        SubGIDMap SubUIDMap Sysctl Timezone Tmpfs UIDMap Ulimit Unmask User UserNS VolatileTmp Volume
        WorkingDir
        """
    ),
    "Pod": _words(
        """
        AddHost ContainersConfModule DNS DNSOption DNSSearch ExitPolicy GIDMap GlobalArgs HostName IP
        IP6 Label Network NetworkAlias PodName PodmanArgs PublishPort RemapGid RemapUid RemapUidSize
        RemapUsers ServiceName ShmSize StopTimeout SubGIDMap SubUIDMap UIDMap UserNS Volume
        """
    ),
    "Kube": _words(
        """
        AutoUpdate ConfigMap ContainersConfModule ExitCodePropagation GlobalArgs KubeDownForce
        LogDriver Network PodmanArgs PublishPort RemapGid RemapUid RemapUidSize RemapUsers
        ServiceName SetWorkingDirectory UserNS Yaml
        """
    ),
    "Network": _words(
        """
        ContainersConfModule DNS DisableDNS Driver Gateway GlobalArgs IPAMDriver IPRange IPv6
        InterfaceName Internal Label NetworkDeleteOnStop NetworkName Options PodmanArgs ServiceName
        Subnet
        """
    ),
    "Volume": _words(
        """
        ContainersConfModule Copy Device Driver GID GlobalArgs Group Image Label Options PodmanArgs
        ServiceName Type UID User VolumeName
        """
    ),
    "Build": _words(
        """
        Annotation Arch AuthFile BuildArg ContainersConfModule DNS DNSOption DNSSearch Environment
        File ForceRM GlobalArgs GroupAdd IgnoreFile ImageTag Label Network PodmanArgs Pull Retry
        RetryDelay Secret ServiceName SetWorkingDirectory TLSVerify Target Variant Volume
        """
    ),
    "Image": _words(
        """
        AllTags Arch AuthFile CertDir ContainersConfModule Creds DecryptionKey GlobalArgs Image
        ImageTag OS PodmanArgs Policy Retry RetryDelay ServiceName TLSVerify Variant
        """
    ),
    "Quadlet": _words("DefaultDependencies"),
}
_RUNS = ("Service", "Socket", "Mount", "Swap", "Scope")

NAMES = {
    **_OWN,
    **{section: _OWN[section] | _words(_EXEC, _RESOURCES) for section in _RUNS},
    "Slice": _OWN["Slice"] | _words(_RESOURCES),
    "Unit": _OWN["Unit"]
    | frozenset(f"{kind}{what}" for kind in ("Condition", "Assert") for what in _CONDITIONS.split()),
}
# How a .container runs as a process: the directives of a service.
NAMES["X-Kirsch-Process"] = NAMES["Service"]


def mistake(entry: Entry) -> str:
    """Return what is wrong with an assignment's name; empty if it is known, or its section is another's."""
    known = NAMES.get(entry.section)
    if known is None or entry.name in known or entry.name.startswith("X-"):
        return ""
    return f"{entry.name}= is no directive of [{entry.section}]{_instead(entry)}"


def mistakes(file: UnitFile, name: UnitName) -> Iterator[UnitError]:
    """Yield an error for each section and each directive that nobody knows, at its place."""
    usual = ("Unit", "Install", "Service", name.type.capitalize(), "X-Kirsch", "X-Fleet", "X-Kirsch-Process")
    for section in file.sections:
        if section not in NAMES and not section.startswith("X-"):
            alike = _alike(section, usual)
            hint = f"; did you mean [{alike}]?" if alike else ""
            yield UnitError(f"there is no section [{section}]{hint}", file.file)
        for entry in file.entries(section):
            if words := mistake(entry):
                yield UnitError(words, file.file, entry.line, entry.name_column)


def _instead(entry: Entry) -> str:
    """The end of a message: the section that knows the name, or a name like it."""
    for section in ("Unit", "Service", "Container", "Install"):
        if entry.name in NAMES[section]:
            return f": it belongs into [{section}]"
    if entry.name in OPTIONS:
        return ": it belongs into [X-Kirsch]"
    alike = _alike(entry.name, NAMES[entry.section])
    return f"; did you mean {alike}=?" if alike else ""


def _alike(word: str, known: Iterable[str]) -> str:
    """The name that was meant, whatever its case; empty if none is like it."""
    names = {name.lower(): name for name in sorted(known)}
    found = get_close_matches(word.lower(), names, n=1, cutoff=0.7)
    return names[found[0]] if found else ""

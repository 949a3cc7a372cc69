*** Settings ***
Documentation     A bad day. A person changes the notes while others use them, 50 requests a second, and much of what can
...               be wrong with a change is. No request fails, and no note that was confirmed is lost.
...
...               Each change is a release, which kirschd carries out instance by instance and takes back by itself.
Library           OperatingSystem
Resource          notes.resource
Suite Setup       Start The Notes
Suite Teardown    Remove Application
Test Setup        Start Reading And Writing
Test Teardown     Nobody Should Have Noticed
Test Tags         releases


*** Variables ***
${TEMPLATE}       units/notes@.container
${RELEASE}        [release]\nhealthy_for = "1s"\n


*** Test Cases ***
A Typing Mistake Crashes At Import
    [Tags]    faults
    Change File    ${TEMPLATE}    python -m webapp    python -m wepapp
    Run Kirsch    up    -d    -m    faster    status=1    timeout=2 minutes
    Error Should Say    release 2 of notes failed: notes@1.container    No module named wepapp
    ...    runs the text it had before (ready: lb.container, notes@1.container, notes@2.container, webdb.container)
    Change File    ${TEMPLATE}    python -m wepapp    python -m webapp

A Migration Fails Before Anything Is Replaced
    [Tags]    faults
    Change File    ${TEMPLATE}    instance %i    number %i
    Settle How    command = "python -m webapp.nothing"
    Run Kirsch    up    -d    status=1    timeout=2 minutes
    Error Should Say    release 3 of notes failed: notes-release@3.container    No module named webapp.nothing
    ...    Nothing was changed
    Both Instances Should Answer In Turn

The Migration Is Mended And All Goes Through
    Settle How    command = "python --version"
    Run Kirsch    up    -d    -m    second try    timeout=2 minutes
    Output Should Say    it is up to date now
    Run Kirsch    releases    notes
    Output Should Say    second try    rolled-back

One Instance Tries A Change Before The Other
    Change File    ${TEMPLATE}    number %i    canary %i
    Settle How    canary = 1
    Run Kirsch    up    -d    timeout=2 minutes
    Output Should Say    Canaries are ready
    Run Kirsch    release    promote    notes
    Wait Until Keyword Succeeds    60s    1s    Newest Release Should Be    5    done

The Change Before It Was Better
    Run Kirsch    rollback    notes    4    timeout=2 minutes
    Output Should Say    release 6 of notes is done: back to release 4

More Instances Help, And Are Not Needed Any More
    Run Kirsch    scale    notes=3    timeout=2 minutes
    Output Should Say    Unit notes@3.container launched on
    Wait Until Load Is Answered By    notes@1    notes@2    notes@3
    Run Kirsch    scale    notes=2    timeout=2 minutes
    Output Should Say    Destroyed notes@3.container


*** Keywords ***
Start The Notes
    Start Application    ${NOTES}    free_ports=yes
    ${library} =    Get Library Instance    kirsch.robot
    VAR    ${FOLDER}    ${library.session.application.directory}    scope=SUITE
    ${toml} =    Get File    ${FOLDER}/kirsch.toml
    VAR    ${TOML}    ${toml}    scope=SUITE
    Settle How    at_a_time = 1

Settle How
    [Documentation]    Writes [release] of kirsch.toml.
    [Arguments]    ${line}
    Create File    ${FOLDER}/kirsch.toml    ${TOML}\n${RELEASE}${line}\n

Change File
    [Arguments]    ${name}    ${old}    ${new}
    ${text} =    Get File    ${FOLDER}/${name}
    Should Contain    ${text}    ${old}
    Create File    ${FOLDER}/${name}    ${{ $text.replace($old, $new) }}

Newest Release Should Be
    [Arguments]    ${number}    ${state}
    ${rows} =    Run Kirsch    releases    notes    --json
    VAR    ${row}    ${{ json.loads($rows)[0] }}
    Should Be Equal As Strings    ${row}[number] ${row}[state]    ${number} ${state}

Nobody Should Have Noticed
    [Documentation]    No request of this test has failed, and each note that was confirmed can be read.
    Stop Load
    No Request Should Have Failed
    Remember What Was Created
    Everything Created Should Be There

*** Settings ***
Documentation     The database's machine burns: the notes on three machines lose the one that takes writes, with its
...               disk, and go on without a note lost. It comes back empty, and is filled again.
Resource          cluster.resource
Suite Setup       Make A Cluster
Test Tags         cluster    faults    data


*** Variables ***
# Patroni's shortest is 20; see docs/database.md.
${OUTAGE}         25 seconds


*** Test Cases ***
The Notes Run With A Database On Each Machine
    Run Kirsch    up    .    --on    ${CLUSTER}    timeout=${LONG}
    Output Should Say    webdb@1.container    webdb@2.container    webdb@3.container
    Wait Until Keyword Succeeds    120s    1s    Members Should Be    Leader    Replica    Sync Standby

The Machine That Takes Writes Burns Under Load
    [Documentation]    Another takes them soon, and what was acknowledged is there.
    ${unit} =    Leading Unit
    ${machine} =    Machine Of    ${unit}
    VAR    ${BURNT}    ${machine}    scope=SUITE
    VAR    ${LOST}    ${unit}    scope=SUITE
    ${note} =    Create Note    Written before the fire
    Read And Write Under Load
    ${killed} =    Kill Machine    ${machine}
    Wait Until Keyword Succeeds    60s    500ms    Members Should Be    Leader    Sync Standby
    Wait Until Load Is Answered By    notes@1    notes@2    after=${killed}
    Wait Until Load Has Sent    500    after=${killed}
    Stop Load And Remember Notes
    Outage Should Be At Most    ${OUTAGE}
    Note Should Read    ${note}    Written before the fire
    Everything Created Should Be There

It Comes Back With An Empty Disk
    Boot Machine    ${BURNT}
    Wait Until Unit Is    ${LOST}    ready    timeout=120s
    Run Kirsch    stop    ${LOST}    timeout=${LONG}
    Run Kirsch    ssh    ${BURNT}    podman    volume    rm    notes-webdb    timeout=${LONG}
    Run Kirsch    start    ${LOST}    timeout=${LONG}
    Wait Until Keyword Succeeds    180s    1s    Members Should Be    Leader    Replica    Sync Standby
    Everything Created Should Be There

All Of It Is Destroyed
    ${said} =    Destroy Cluster
    Should Contain    ${said}    is destroyed


*** Keywords ***
Members Should Be
    [Documentation]    Those that run have these roles, in the order of their names.
    [Arguments]    @{roles}
    ${members} =    Members
    Should Be True    sorted(each["Role"] for each in $members if each["State"] in ("running", "streaming")) == $roles

Members
    ${said} =    Run Kirsch    db    status    webdb    --json    timeout=60s
    RETURN    ${{ json.loads($said)["members"] }}

Leading Unit
    ${members} =    Members
    RETURN    ${{ next(each["Member"] for each in $members if each["Role"] == "Leader").replace("-", "@") }}

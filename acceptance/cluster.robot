*** Settings ***
Documentation     The notes on a cluster of three machines, from the first command to the last, and what a
...               person sees of machines that die: the article's story, and where it ended for want of links
...               across hosts, how it goes on.
Resource          cluster.resource
Suite Setup       Make A Cluster
Test Tags         cluster


*** Test Cases ***
There Are Three Machines
    [Tags]    command-line
    ${table} =    Run Kirsch    list-machines
    Output Should Say    hostname=n1,zone=a    hostname=n2,zone=b    hostname=n3,zone=c
    Run Kirsch    list-unit-files    --no-legend
    Run Kirsch    list-units    --no-legend

Images Go To The Cluster
    [Tags]    images
    FOR    ${image}    IN    web    haproxy
        Run Kirsch    image    build    ${IMAGES}/${image}    -t    kirsch/${image}    timeout=${LONG}
    END
    Image Goes To The Cluster    ${IMAGES}/postgres    kirsch/postgres
    Image Goes To The Cluster    ${NOTES}    notes
    Image Goes To The Cluster    ${NOTES}/balancer    notes-balancer
    Image Goes To The Cluster    ${NOTES}/backup    notes-backup

Units Are Submitted
    [Tags]    command-line
    Run Kirsch    submit    units/webdb.container    units/notes@.container    units/lb.container
    Run Kirsch    list-unit-files
    Output Should Say    webdb.container    notes@.container    lb.container    inactive
    Run Kirsch    list-units
    Run Kirsch    why    webdb
    Output Should Say    nobody wants it to run

The Database Is Loaded, And Then Started
    [Tags]    command-line
    Run Kirsch    load    webdb
    Run Kirsch    list-units
    Output Should Say    webdb.container    inactive
    # It waits for its password, and says how to give it one.
    Run Kirsch    start    --no-block    webdb
    Wait Until Keyword Succeeds    20s    200ms    Why Should Say    webdb    kirsch secret set notes-database
    Run Kirsch    secret    set    notes-database    reads=cherries-in-the-summer
    Wait Until Unit Is    webdb    ready    timeout=90s
    Run Kirsch    status    webdb
    Output Should Say    active (running)
    Run Kirsch    journal    -n    100    webdb
    Output Should Say    database system is ready to accept connections

Two Instances Of The Template Start
    [Tags]    command-line
    Run Kirsch    start    notes@1    timeout=${LONG}
    Output Should Say    Unit notes@1.container launched on
    Run Kirsch    start    notes@2    timeout=${LONG}
    Wait Until Unit Is    notes@1    ready    timeout=90s
    Wait Until Unit Is    notes@2    ready    timeout=90s
    ${database} =    Machine Of    webdb
    ${one} =    Machine Of    notes@1
    ${two} =    Machine Of    notes@2
    Should Be True    len({$database, $one, $two}) == 3    They are not on machines of their own.

A Balancer Starts On Every Machine, And The Page Opens
    [Tags]    browser    balancer
    Run Kirsch    start    lb    timeout=${LONG}
    Wait Until Keyword Succeeds    60s    500ms    Ingress Should Answer
    Open Page
    Page Should Show    No notes yet
    Write Note    Buy cherries
    Note Should Be Shown    Buy cherries
    Foot Of The Page Should Come To Name    notes@1
    Foot Of The Page Should Come To Name    notes@2
    No Script Should Have Failed

The Database Is Asked By A One-Off Command
    [Tags]    command-line
    Run Kirsch    run    --link    webdb:postgres    localhost/kirsch/postgres    psql    -Atc    SELECT text FROM notes ORDER BY id LIMIT 1
    Output Should Say    Buy cherries

A Timer Backs The Database Up, And A Backup Is Put Back
    [Tags]    data
    ${note} =    Create Note    Kept in a backup
    Run Kirsch    submit    cluster/backup.container    cluster/nightly.timer
    Run Kirsch    start    backup    nightly    timeout=${LONG}
    ${first} =    Last Backup
    Should Not Be Empty    ${first}
    # It is night sooner here than elsewhere.
    ${timer} =    Get File    ${NOTES}/cluster/nightly.timer
    ${soon} =    Replace String    ${timer}    *-*-* 03:00:00    *:*:0/5
    Create File    ${TEMPDIR}/${CLUSTER}/nightly.timer    ${soon}
    Run Kirsch    submit    --replace    ${TEMPDIR}/${CLUSTER}/nightly.timer
    Wait Until Keyword Succeeds    60s    500ms    Backup Should Be Made    ${first}
    Run Kirsch    stop    nightly
    # One that has begun may see what is deleted now.
    Wait Until Unit Is    backup    inactive
    Delete Note    ${note}
    Read Note    ${note}    status=404
    Run Kirsch    run    backup    restore
    Output Should Say    is restored
    Note Should Read    ${note}    Kept in a backup

The Machine Of An Instance Is Killed Under Load
    [Documentation]    Requests fail only if they were in flight when it died, and fewer than one in a hundred.
    ...    The instance is elsewhere soon after, at the address it had.
    [Tags]    faults
    ${address} =    Unit Address    notes@1
    ${machine} =    Machine Of    notes@1
    VAR    ${DEAD}    ${machine}    scope=SUITE
    Read And Write Under Load
    ${killed} =    Kill Machine    ${machine}
    Wait Until Unit Is Elsewhere    notes@1    ${machine}
    Wait Until Load Is Answered By    notes@1    notes@2    after=${killed}
    Wait Until Load Has Sent    500    after=${killed}
    Stop Load And Remember Notes
    Failed Requests Should Be At Most    1
    Failed Requests Should Have Been In Flight    at=${killed}
    ${now} =    Unit Address    notes@1
    Should Be Equal    ${now}    ${address}

A Machine That Is An Ingress Is Killed Under Load
    [Documentation]    The one that came back has a balancer again, and nothing else that is asked for.
    [Tags]    faults
    Boot Machine    ${DEAD}
    Wait Until Unit Is Ready On    lb    ${DEAD}
    All Should Become Well
    Read And Write Under Load
    Wait Until Load Has Sent    200
    ${killed} =    Kill Machine    ${DEAD}
    Wait Until Load Has Sent    500    after=${killed}
    Stop Load And Remember Notes
    Failed Requests Should Be At Most    1
    Failed Requests Should Have Been In Flight    at=${killed}
    Boot Machine    ${DEAD}
    All Should Become Well

The Machine Of The Database Is Killed And Comes Back
    [Documentation]    Meanwhile people are told to come back later; its data is there alone, so it waits.
    [Tags]    faults    data
    ${machine} =    Machine Of    webdb
    Kill Machine    ${machine}
    Wait Until Keyword Succeeds    30s    200ms    Somebody Should Be Refused
    Wait Until Keyword Succeeds    30s    500ms    Why Should Say    webdb    is away
    Boot Machine    ${machine}
    All Should Become Well
    Both Instances Should Answer In Turn

A Machine Is Drained Under Load
    [Documentation]    Not one request fails.
    [Tags]    balancer
    ${machine} =    Machine Of    notes@2
    Read And Write Under Load
    Run Kirsch    drain    ${machine}    timeout=${LONG}
    Wait Until Unit Is Elsewhere    notes@2    ${machine}
    Stop Load And Remember Notes
    No Request Should Have Failed
    Run Kirsch    uncordon    ${machine}
    All Should Become Well

PostgreSQL Is Restarted Under Load
    [Documentation]    For five seconds at most people are told to come back later.
    [Tags]    data
    Read And Write Under Load
    ${restarted} =    Moment Now
    Run Kirsch    restart    webdb    timeout=${LONG}
    Wait Until Unit Is    webdb    ready
    Wait Until Load Is Answered By    notes@1    notes@2    after=${restarted}
    Wait Until Load Has Sent    500    after=${restarted}
    Stop Load And Remember Notes
    Refused Requests Should Say When To Ask Again
    Outage Should Be At Most    5 seconds

No Note Was Lost That Was Acknowledged
    [Tags]    data
    Everything Created Should Be There

All Of It Is Destroyed
    [Tags]    command-line
    Close Page
    Run Kirsch    destroy    lb    notes@1    notes@2    notes@.container    nightly    backup    webdb
    Wait Until Keyword Succeeds    60s    500ms    Nothing Should Be Listed
    ${said} =    Destroy Cluster
    Should Contain    ${said}    is destroyed

*** Settings ***
Documentation     A person takes notes in a browser, from one command: `kirsch up examples/notes`. Two instances
...               of the application answer behind HAProxy, the notes are kept in PostgreSQL.
...
...               The application runs on a copy, on ports that are free: nobody's own notes are touched.
Resource          notes.resource
Suite Setup       Start Application    ${NOTES}    free_ports=yes
Suite Teardown    Remove Application
Test Tags         notes


*** Test Cases ***
All Units Run Once The Application Is Up
    [Tags]    command-line
    FOR    ${unit}    IN    webdb    notes@1    notes@2    lb
        Unit Should Be    ${unit}    active
        Unit Should Be    ${unit}    ready
    END
    Run Kirsch    list-units
    Output Should Say    webdb.container    notes@1.container    notes@2.container    lb.container

The Page Opens At The Address That Was Printed
    [Tags]    browser
    Open Page
    Page Should Show    No notes yet
    Foot Of The Page Should Name An Instance

A Note Is Written, Changed And Deleted By Keyboard
    [Tags]    browser
    Open Page
    Write Note    Buy cherries
    Note Should Be Shown    Buy cherries
    Change Note On The Page    Buy cherries    Buy plums
    Note Should Be Shown    Buy plums
    Note Should Not Be Shown    Buy cherries
    Reload Page
    Note Should Be Shown    Buy plums
    Delete Note On The Page    Buy plums
    Page Should Show    No notes yet
    No Script Should Have Failed

A Note Is Created, Changed And Deleted By A Program
    [Tags]    rest
    ${note} =    Create Note    Приветик 🍒
    Note Should Read    ${note}    Приветик 🍒
    ${changed} =    Edit Note    ${note}    Bye
    Note Should Read    ${note}    Bye
    # What is known of a note may be out of date: nobody's change is lost.
    Edit Note    ${note}    Too late    status=412
    Delete Note    ${changed}
    Read Note    ${note}    status=404

Both Instances Answer In Turn
    [Tags]    rest    balancer
    Both Instances Should Answer In Turn

The Page Shows Which Instance Answered
    [Tags]    browser    balancer
    Open Page
    Foot Of The Page Should Come To Name    notes@1
    Foot Of The Page Should Come To Name    notes@2

HAProxy Shows Its Statistics
    [Tags]    browser    balancer
    ${statistics} =    Statistics Page
    Open Page    ${statistics}
    Page Should Show    notes:1.container
    Page Should Show    notes:2.container

The Dashboard Shows What Goes Where
    [Documentation]    The graph of the notes has the rate of requests on its arrows, and leads to each unit: from the
    ...    balancer's to HAProxy's statistics, from an instance's to its requests.
    [Tags]    browser    balancer    dashboard
    Open Dashboard
    Follow Link    notes
    Page Should Show    Release 1
    Page Should Show    /s
    Follow Link    lb: ready, uses notes@1, notes@2
    Page Should Show    HAProxy's statistics
    Follow Link    notes@1
    Part Should Show    .plots    .*Requests [\\d.]+ a second.*
    No Script Should Have Failed

An Instance Is Killed Under Load And Comes Back
    [Documentation]    No request fails once the balancer has noticed. A request fails at all only if it was in
    ...    flight when the instance died: it had begun before the process was gone and had not ended before it
    ...    was killed. No note that was confirmed is lost.
    [Tags]    faults
    Start Reading And Writing
    ${killed} =    Kill Unit    notes@1
    ${noticed} =    Wait Until The Balancer Has Noticed    notes@1    after=${killed}
    Wait Until Load Is Answered By    notes@2    after=${noticed}
    Wait Until Unit Is Back    notes@1
    Unit Should Be    notes@1    active
    Wait Until Load Is Answered By    notes@1    notes@2    after=${noticed}
    Stop Load
    No Request Should Have Failed    after=${noticed}
    Failed Requests Should Have Been In Flight    at=${killed}
    ${confirmed} =    Requests That Succeeded    POST
    ${kept} =    Notes That Read    under load
    Should Be True    len($kept) >= ${confirmed} > 0    Of ${confirmed} confirmed notes some are lost.
    Both Instances Should Answer In Turn

The Page Goes On Working While An Instance Is Killed
    [Tags]    faults    browser
    Open Page
    Write Note    Before the crash
    ${killed} =    Kill Unit    notes@2
    Wait Until The Balancer Has Noticed    notes@2    after=${killed}
    Write Note    Just after the crash
    Note Should Be Shown    Just after the crash
    Foot Of The Page Should Name An Instance
    Wait Until Unit Is Back    notes@2
    Foot Of The Page Should Come To Name    notes@2
    No Script Should Have Failed

A Failing Instance Is Found By Looking
    [Documentation]    A person sees in the dashboard that something is wrong, which instance it is and why, reads
    ...    its last lines, starts it again, and sees that all is well.
    [Tags]    faults    browser    dashboard
    Open Dashboard
    Dashboard Should Say    All 4 units are as they should be.
    Kill Unit Until It Fails    notes@2
    Dashboard Should Say    1 of 4 units is not as wanted.
    Part Should Show    .wrong li p    notes@2 failed: .*killed.*
    Follow Link    Journal
    Page Should Show    notes@2
    Part Should Show    h1 .words    failed
    Page Should Show    killed
    Press Button    Start
    Page Should Show    Start notes@2?
    Press Keys    Tab    Enter
    Part Should Show    .done p    Start notes@2: it is ready    within=1 min
    Follow Link    Overview
    Dashboard Should Say    All 4 units are as they should be.
    No Script Should Have Failed

Notes Are Still There After Down And Up
    [Tags]    data
    ${note} =    Create Note    Kept over night
    Stop Application    by=down
    Start Application    ${NOTES}
    Note Should Read    ${note}    Kept over night
    Open Page
    Note Should Be Shown    Kept over night
    Both Instances Should Answer In Turn

Nothing Is Left After Ctrl-C
    [Tags]    command-line
    ${statistics} =    Statistics Page
    Stop Application    by=Ctrl-C
    Nothing Should Be Left
    Nobody Should Listen At    /
    Nobody Should Listen At    ${statistics}
    Run Kirsch    list-units
    Error Should Say    is not up

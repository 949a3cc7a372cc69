*** Settings ***
Documentation     CherryPy on a phone tells where it is: on a page, to programs, and live. Nobody has a phone here, so
...               a walk that was recorded is played; that the browser knows its own place, or may not, is its own.
Resource          location.resource
Suite Setup       Start Application    ${LOCATION}    free_ports=yes
Suite Teardown    Remove Application
Test Tags         location


*** Test Cases ***
The Application Is One Unit
    [Tags]    command-line
    Unit Should Be    location    active
    Unit Should Be    location    ready
    Wait Until Unit Says    location    Open http://localhost:\\d+/location on this device

The Page Shows Where The Phone Is, And Goes Along
    [Tags]    browser
    Open The Location
    Phone Should Be Shown
    Page Should Be Live
    Phone Should Move On The Page
    Take Picture    where am I
    No Script Should Have Failed

The Browser Is Asked And Allows It
    [Tags]    browser
    Browser Is At    50.0989    14.4
    Open The Location
    Ask The Browser
    Page Should Show    This browser is at 50.09890° N 14.40000° E, within 10 m
    Page Should Show    from the phone.
    No Script Should Have Failed

The Browser Is Asked And Does Not
    [Tags]    browser
    Browser Keeps Its Place To Itself
    Open The Location
    Ask The Browser
    Page Should Show    You have not allowed this page to know where the browser is.
    # The phone's own is still there.
    Phone Should Be Shown

A Program Reads The Same As JSON
    [Tags]    rest
    ${where} =    Location
    Should Be True    -90 <= ${where}[latitude] <= 90
    Should Be True    ${where}[accuracy] > 0
    Should Be True    0 <= ${where}[age] < 60
    Should Be Equal    ${where}[source]    recorded
    Should Be Empty    ${where}[failures]

What A Program Has Is Not Sent Again
    [Tags]    rest
    ${tag} =    Tag Of The Location
    ${answer} =    GET    ${PAGE}    status=None    If_None_Match=${tag}
    # The phone may just have moved.
    Should Be True    $answer.status in (200, 304)
    ${answer} =    GET    ${PAGE}    status=304    If_None_Match=*

One That Is Too Old Is None
    [Tags]    rest
    ${answer} =    GET    ${PAGE}?max_age\=0    status=503
    Should Be Equal    ${answer.json}[reason]    no-fix

The Page Finds Back After A Crash
    [Tags]    faults    browser
    Open The Location
    Page Should Be Live
    Kill Unit    location
    Wait Until Unit Is Back    location
    Page Should Be Live
    Phone Should Be Shown

Nothing Is Left After Ctrl-C
    [Tags]    command-line
    Stop Application    by=Ctrl-C
    Nothing Should Be Left

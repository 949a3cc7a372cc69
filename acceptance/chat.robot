*** Settings ***
Documentation     Two browser windows talk, from one command: `kirsch up examples/chat`. Each is connected to an instance
...               of its own behind HAProxy; what is said goes through RabbitMQ, and a page shows it when the server sends
...               it back, to the one who said it too.
Resource          chat.resource
Suite Setup       Start Application    ${CHAT}    free_ports=yes    timeout=150 s
Suite Teardown    Remove Application
Test Tags         chat


*** Test Cases ***
All Units Run Once The Application Is Up
    [Tags]    command-line
    FOR    ${unit}    IN    rabbitmq    chat@1    chat@2    lb
        Unit Should Be    ${unit}    active
        Unit Should Be    ${unit}    ready
    END

Two Windows Are Opened
    [Tags]    browser    balancer
    Come In    Ada
    Page Should Show    Nobody has said anything here yet
    Come In    Bob
    # HAProxy gives the next one to whoever has fewest; a check of health in that moment counts, too.
    FOR    ${attempt}    IN RANGE    20
        ${ada} =    Instance Of    Ada
        ${bob} =    Instance Of    Bob
        IF    $ada != $bob    BREAK
        Reload Page
        Should Be Connected
    END
    Should Not Be Equal    ${ada}    ${bob}

What Is Typed In One Appears In Both
    [Tags]    browser
    Switch Window    Ada
    Say    Is anybody here?
    Message Should Be Shown To    Is anybody here?    Ada    Bob
    Say    I am.
    Message Should Be Shown To    I am.    Ada    Bob
    No Script Should Have Failed

Each Sees Who Is Here
    [Tags]    browser
    Switch Window    Ada
    Part Should Show    \#people li:nth-child(1)    Ada ?\\(you\\)
    Part Should Show    \#people li:nth-child(2)    Bob
    Switch Window    Bob
    Type Into    Message    H
    Switch Window    Ada
    Part Should Show    \#typing    Bob is typing …

The Dashboard Plots What An Instance Exports
    [Tags]    browser    dashboard
    ${dashboard} =    Start Dashboard
    Open Page    ${dashboard}    window=Operator
    Follow Link    chat@1: ready
    Page Should Show    kirsch_amqp_connections
    Page Should Show    kirsch_amqp_deliveries_total
    Close Page

What Is Said Elsewhere Is Counted
    [Tags]    browser
    Switch Window    Bob
    Enter Room    kitchen
    Switch Window    Ada
    Say    Where have you gone?
    Switch Window    Bob
    Part Should Show    [data-room=lobby] .unread    1 unread
    Press Button    lobby 1 unread
    Page Should Show    Where have you gone?

Text Is Text
    [Tags]    browser
    Switch Window    Ada
    Say    <script>document.title = "caught"</script> & <b>bold</b>
    Message Should Be Shown To    <script>document.title = "caught"</script> & <b>bold</b>    Ada    Bob

One Loses The Network And Goes On Typing
    [Tags]    browser    faults
    Switch Window    Bob
    Browser Loses The Network
    ${lost} =    Get Time    epoch
    Set Suite Variable    ${LOST}    ${lost}
    Part Should Show    \#state    connection lost.*
    Say    I am in a tunnel.
    Page Should Show    sending …
    Switch Window    Ada
    Say    Bob, where are you?
    Page Should Not Show    I am in a tunnel.

A Page Is Reloaded In Mid-Sentence
    [Documentation]    What was typed stays in the box, what was sent is sent once.
    [Tags]    browser
    Switch Window    Ada
    Type Into    Message    I was just about to
    Reload Page
    Should Be Connected
    Field Should Hold    Message    I was just about to
    Say    I was just about to call you.
    Message Should Be Shown To    I was just about to call you.    Ada

The Network Is Back After A Minute
    [Documentation]    Nobody has missed a word, and nothing was said twice.
    [Tags]    browser    faults
    ${away} =    Evaluate    time.time() - $LOST    modules=time
    ${minute} =    Evaluate    60 if "KIRSCH_SOAK" in os.environ else 5    modules=os
    Sleep    ${{ max($minute - $away, 0) }} s    The story is of a minute, which the soak takes.
    Switch Window    Bob
    Browser Has The Network Again
    Should Be Connected
    Message Should Be Shown To    I am in a tunnel.    Ada    Bob
    Message Should Be Shown To    Bob, where are you?    Bob
    Message Should Be Shown To    I was just about to call you.    Bob
    FOR    ${text}    IN    I am in a tunnel.    Bob, where are you?    I was just about to call you.
        Message Should Be There Once    ${text}    Ada    Bob
    END

One Who Comes Later Hears What Was Said
    [Tags]    browser    data
    Come In    Late
    Page Should Show    Is anybody here?
    Page Should Show    Where have you gone?
    Close Page

An Instance Is Killed And Nobody Misses A Word
    [Documentation]    The window that was connected through it comes back by itself, through the other one or through
    ...    the same when that is back; what was said meanwhile is there, once.
    [Tags]    faults    browser
    ${instance} =    Instance Of    Ada
    Kill Unit    ${instance}
    Switch Window    Bob
    Say    Ada, can you hear me?
    Switch Window    Ada
    Should Be Connected
    Message Should Be Shown To    Ada, can you hear me?    Ada    Bob
    Switch Window    Ada
    Say    Loud and clear.
    Message Should Be Shown To    Loud and clear.    Ada    Bob
    Wait Until Unit Is Back    ${instance}

A Moderator Has Somebody Leave
    [Documentation]    By the command line, with the broker's account of an instance: who it was, and out.
    [Tags]    browser    command-line
    Switch Window    Bob
    Enter Room    garden
    Say    Cherries, cheap cherries!
    Message Should Be Shown To    Cherries, cheap cherries!    Bob
    ${user} =    Who Spoke First In    garden
    Run Kirsch    exec    chat@1    kirsch    room    kick    ${user}    --bridge    chat
    ...    --reason    No advertising, please.
    Part Should Show    \#state    closed: No advertising, please\..*
    Switch Window    Ada
    Should Be Connected
    Run Kirsch    exec    chat@1    kirsch    room    send    lobby    {"text": "Be kind."}    --json    --bridge    chat
    Message Should Be Shown To    Be kind.    Ada

What Was Said Is Still There After Down And Up
    [Tags]    data
    Stop Application    by=down
    Start Application    ${CHAT}    timeout=150 s
    Come In    Ada
    Page Should Show    Loud and clear.
    No Script Should Have Failed

Nothing Is Left After Ctrl-C
    [Tags]    command-line
    Stop Application    by=Ctrl-C
    Nothing Should Be Left

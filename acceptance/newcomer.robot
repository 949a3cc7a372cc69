*** Settings ***
Documentation     A newcomer's first hour: an empty folder, far from kirsch's own. A small application is written, run,
...               broken, repaired, read about, scaled and stopped, each time by what one types first.
Library           Collections
Library           OperatingSystem
Library           Process
Library           String
Test Setup        Enter An Empty Folder
Test Teardown     Leave The Folder
Test Template     The First Hour
Test Tags         command-line


*** Variables ***
# Of the environment that kirsch is installed in: the one that runs this suite, unless another is named.
${PYTHON}         ${EMPTY}


*** Test Cases ***
With CherryPy
    cherrypy    raise

With Flask
    flask    raise

With FastAPI
    fastapi    raise


*** Keywords ***
The First Hour
    [Arguments]    ${kind}    ${mistake}
    It Is Written    ${kind}
    It Runs
    It Breaks    ${mistake}
    It Is Read About Afterwards
    It Is Repaired
    It Is Scaled
    It Is Stopped For Good

It Is Written
    [Arguments]    ${kind}
    ${said} =    Kirsch    init . --template ${kind} --with haproxy
    Should Contain    ${said}    kirsch up
    # Others may have the port.
    FOR    ${file}    IN    kirsch.toml    haproxy.cfg    units/lb.container
        ${text} =    Get File    ${FOLDER}/${file}
        ${text} =    Replace String    ${text}    8080/    ${PORT}/
        ${text} =    Replace String    ${text}    :8080"    :${PORT}"
        ${text} =    Replace String    ${text}    8080:8080    ${PORT}:${PORT}
        ${text} =    Replace String    ${text}    Expose=8080    Expose=${PORT}
        ${text} =    Replace String    ${text}    http://:8080    http://:${PORT}
        Create File    ${FOLDER}/${file}    ${text}
    END
    ${said} =    Kirsch    verify units/web@.container units/lb.container
    Should Contain    ${said}    units/web@.container: ok

It Runs
    ${said} =    Kirsch    up -d
    Should Contain    ${said}    is up: http://localhost:${PORT}/
    Page Should Say    Hello from web@

It Breaks
    [Documentation]    A mistake in the code; up says which unit failed, and the others run.
    [Arguments]    ${mistake}
    Kirsch    down
    ${GOOD} =    Get File    ${FOLDER}/app.py
    Set Test Variable    ${GOOD}
    Create File    ${FOLDER}/app.py    ${mistake} SystemExit("I forgot something")\n
    ${said} =    Kirsch    up -d    status=1
    Should Contain    ${said}    I forgot something
    Should Not Contain    ${said}    Traceback
    Kirsch    down

It Is Read About Afterwards
    [Documentation]    Nothing is up, and all is said, with the time.
    FOR    ${verb}    IN    status    journal
        ${said} =    Kirsch    ${verb} web@1
        Should Contain    ${said}    is not up; this is as of
        Should Contain    ${said}    forgot
    END

It Is Repaired
    Create File    ${FOLDER}/app.py    ${GOOD}
    Kirsch    up -d
    Page Should Say    Hello from web@
    ${said} =    Kirsch    logs -n 100 web@1
    Should Contain    ${said}    Started web@1.container
    ${said} =    Kirsch    strat web@1    status=2
    Should Contain    ${said}    did you mean start

It Is Scaled
    ${said} =    Kirsch    scale web=3
    Should Contain    ${said}    Unit web@3.container launched
    ${said} =    Kirsch    ps 'web@*'
    Should Contain X Times    ${said}    running    3

It Is Stopped For Good
    ${said} =    Kirsch    down --volumes
    Should Contain    ${said}    is down
    ${said} =    Kirsch    down
    Should Contain    ${said}    is not up

Page Should Say
    [Arguments]    ${words}
    ${page} =    Evaluate
    ...    urllib.request.urlopen("http://localhost:${PORT}/", timeout=30).read().decode()    modules=urllib.request
    Should Contain    ${page}    ${words}

Kirsch
    [Documentation]    What a command prints, on both streams.
    [Arguments]    ${line}    ${status}=0
    ${result} =    Run Process    ${PYTHON} -m kirsch.cli.main ${line}    shell=yes    cwd=${FOLDER}
    ...    stderr=STDOUT    timeout=120 s    env:VIRTUAL_ENV=${PREFIX}
    Log    ${result.stdout}
    Should Be Equal As Integers    ${result.rc}    ${status}    ${line}: ${result.stdout}
    RETURN    ${result.stdout}

Enter An Empty Folder
    ${FOLDER} =    Evaluate    tempfile.mkdtemp(prefix="kirsch-newcomer-")    modules=tempfile
    ${PORT} =    Evaluate    (s := socket.create_server(("127.0.0.1", 0))).getsockname()[1]    modules=socket
    ${PYTHON} =    Evaluate    $PYTHON or sys.executable    modules=sys
    ${PREFIX} =    Evaluate    os.path.dirname(os.path.dirname($PYTHON))    modules=os
    Set Test Variable    ${FOLDER}
    Set Test Variable    ${PORT}
    Set Test Variable    ${PYTHON}
    Set Test Variable    ${PREFIX}

Leave The Folder
    Run Process    ${PYTHON} -m kirsch.cli.main down --volumes .    shell=yes    cwd=${FOLDER}
    Remove Directory    ${FOLDER}    recursive=yes

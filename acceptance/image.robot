*** Settings ***
Documentation     A person puts a CherryPy application into an image, runs it, changes it, and hands it on: what
...               the article on containers tells, with `kirsch image` and podman.
Resource          image.resource
Suite Setup       Make An Application
Suite Teardown    Remove Application And Images
Test Tags         images    command-line


*** Test Cases ***
There Is An Image That Applications Begin With
    ${said} =    Kirsch    image    build    ${IMAGES}/web    -t    kirsch/web
    Should Contain    ${said}    localhost/kirsch/web:latest

An Application Becomes An Image
    ${said} =    Kirsch    image    build    ${FOLDER}/${NAME}    -t    ${NAME}
    Should Contain    ${said}    RUN pip install
    Should Contain    ${said}    localhost/${NAME}:latest

The Image Is Run And The Page Opens
    Run Container    ${NAME}
    Page Should Become    Hello from a container

The Code Of This Computer Is Served From A Container
    Run Container    localhost/kirsch/web    --volume    ${FOLDER}/${NAME}/webapp:/home/web/webapp
    Page Should Become    Hello from a container

A Change Is Seen While The Application Is Written
    Start Development
    Page Should Become    Hello from a container
    Write Page    Hello again
    Page Should Become    Hello again
    Append To File    ${FOLDER}/${NAME}/webapp/__init__.py    def broken(:\n
    Development Should Say    webapp/__init__.py:7: SyntaxError
    Page Should Be    Hello again
    Write Page    Hello once more
    Page Should Become    Hello once more
    Stop Development

What Was Built Before Is Not Built Again
    Kirsch    image    build    ${FOLDER}/${NAME}    -t    ${NAME}
    ${said} =    Kirsch    image    build    ${FOLDER}/${NAME}    -t    ${NAME}
    Should Contain    ${said}    RUN pip install -r requirements.txt (cached)

An Image Gets A Version's Tag
    ${said} =    Kirsch    image    tag    ${NAME}    ${NAME}:1.0
    Should Contain    ${said}    localhost/${NAME}:1.0
    ${listed} =    Kirsch    image    list
    Should Match Regexp    ${listed}    localhost/${NAME} +1\\.0 +[0-9a-f]{12} +k-[0-9a-f]{12} +\\d+\\.\\d MB

An Image Goes To A Registry And Comes Back
    Start Registry
    ${refused} =    Kirsch Refuses    image    push    ${NAME}:1.0    ${REGISTRY}/${NAME}:1.0
    Should Contain    ${refused}    --insecure ${REGISTRY}
    Kirsch    image    push    ${NAME}:1.0    ${REGISTRY}/${NAME}:1.0    --insecure    ${REGISTRY}
    Kirsch    image    rm    --force    ${NAME}:1.0    ${NAME}
    Kirsch    image    pull    ${REGISTRY}/${NAME}:1.0    --insecure    ${REGISTRY}
    Run Container    ${REGISTRY}/${NAME}:1.0
    Page Should Become    Hello once more

A Step That Fails Is Told With Its Last Lines
    Append To File    ${FOLDER}/${NAME}/Containerfile    RUN echo it cannot be done && exit 3\n
    ${refused} =    Kirsch Refuses    image    build    ${FOLDER}/${NAME}    -t    ${NAME}:broken
    Should Contain    ${refused}    it cannot be done
    Should Contain    ${refused}    exit status 3
    ${listed} =    Kirsch    image    list
    Should Not Contain    ${listed}    broken

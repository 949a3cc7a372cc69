#!/bin/sh
# A stand-in for the command termux-location, as its documentation has it. Nobody has a phone here.
#
# What it says lies beside it, in the folder PROVIDER-REQUEST, or in `any`: the files out, err, status, and hang if
# it never ends. It writes what it was asked to `log`, and the pid of what it starts when it hangs.
here=$(dirname "$0") provider=gps request=once
while getopts p:r: option; do
    case $option in
        p) provider=$OPTARG ;;
        r) request=$OPTARG ;;
        *) exit 64 ;;
    esac
done
case "$provider $request" in
    gps\ once | gps\ last | network\ once | network\ last | passive\ once | passive\ last) ;;
    *) exit 64 ;;
esac
echo "$provider $request" >> "$here/log"
answer=$here/$provider-$request
[ -d "$answer" ] || answer=$here/any
[ -d "$answer" ] || exit 0
if [ -e "$answer/hang" ]; then
    # As the real one, which is a script that starts termux-api.
    sleep 600 &
    echo "child $!" >> "$here/log"
    wait
fi
cat "$answer/out"
cat "$answer/err" >&2
exit "$(cat "$answer/status")"

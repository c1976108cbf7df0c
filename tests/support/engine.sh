#!/bin/sh
# A Docker engine of its own for the tests of the images; needs root on Debian or Ubuntu.
#
#   tests/support/engine.sh start DIR   start it and print its address, for DOCKER_HOST
#   tests/support/engine.sh stop DIR    stop it; layers stay in DIR for the next start
#
# It has no bridge and touches no firewall rule, so builds need `--network host`. Where no registry
# answers, the base image is made from the Debian archive, once, and kept in ~/.cache/defectline.
set -eu

BASE=python:3.11-slim-bookworm
ARCHIVE=${XDG_CACHE_HOME:-$HOME/.cache}/defectline/$(echo $BASE | tr : -).tar

fail() {
    echo "engine.sh: $*" >&2
    exit 1
}

alive() {
    [ -s "$DIR/dockerd.pid" ] && kill -0 "$(cat "$DIR/dockerd.pid")" 2>/dev/null
}

install_missing() {
    command -v dockerd >/dev/null && command -v debootstrap >/dev/null && return
    [ "$(id -u)" = 0 ] || fail "dockerd or debootstrap is missing and only root can install them"
    apt-get update
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends docker.io debootstrap
}

make_base() {
    echo "engine.sh: no registry answers: making $BASE from the Debian archive" >&2
    folder=$(mktemp -d "$DIR/base.XXXXXX")
    debootstrap --variant=minbase --include=ca-certificates,python3,python3-pip,python3-venv \
        bookworm "$folder"
    # What the real image does not have either.
    rm -rf "$folder"/usr/lib/python3.11/EXTERNALLY-MANAGED "$folder"/var/cache/apt/* \
        "$folder"/var/lib/apt/lists/* "$folder"/usr/share/doc "$folder"/usr/share/man "$folder"/usr/share/locale
    ln -s python3 "$folder/usr/bin/python"
    mkdir -p "$(dirname "$ARCHIVE")"
    tar -C "$folder" -cf "$ARCHIVE.$$" .
    mv "$ARCHIVE.$$" "$ARCHIVE"
    rm -rf "$folder"
}

provide_base() {
    docker image inspect $BASE >/dev/null 2>&1 && return
    if [ ! -s "$ARCHIVE" ]; then
        timeout 120 docker pull $BASE && return
        make_base
    fi
    docker import -c 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8' \
        "$ARCHIVE" $BASE
}

start() {
    alive && return
    install_missing
    # Whatever fails from here on must not leave an engine behind.
    trap stop EXIT
    # Detached, and without our output: a caller that reads it must not wait for the engine to end.
    setsid dockerd --data-root "$DIR/data" --exec-root "$DIR/exec" --pidfile "$DIR/dockerd.pid" \
        --host "$DOCKER_HOST" --bridge=none --iptables=false --ip6tables=false --ip-forward=false \
        --ip-masq=false >"$DIR/dockerd.log" 2>&1 </dev/null &
    tries=0
    until docker info >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ $tries -le 60 ] || fail "the engine did not start within 60 s, see $DIR/dockerd.log"
        sleep 1
    done
    provide_base
    trap - EXIT
}

stop() {
    alive || return 0
    pid=$(cat "$DIR/dockerd.pid")
    kill "$pid"
    tries=0
    while kill -0 "$pid" 2>/dev/null; do
        tries=$((tries + 1))
        [ $tries -le 60 ] || fail "the engine (process $pid) did not stop within 60 s"
        sleep 1
    done
}

[ $# = 2 ] || fail "usage: engine.sh start|stop DIR"
mkdir -p "$2"
DIR=$(cd "$2" && pwd)
export DOCKER_HOST="unix://$DIR/docker.sock"
case $1 in
    start)
        start >&2
        echo "$DOCKER_HOST"
        ;;
    stop) stop ;;
    *) fail "usage: engine.sh start|stop DIR" ;;
esac

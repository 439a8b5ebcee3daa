#!/usr/bin/env bash
# Gets promtool from Debian's package `prometheus` once, into the user's cache; nothing is installed. The last line of output is
# the path of the binary. Exit codes: 0 if the binary exists, 3 if it cannot be had.
set -euo pipefail

say() { printf 'promtool: %s\n' "$*" >&2; }

if command -v promtool; then
    exit 0
fi
cache=${XDG_CACHE_HOME:-$HOME/.cache}/actorloom/promtool
binary=$cache/promtool
if [[ -x $binary ]]; then
    echo "$binary"
    exit 0
fi
for program in apt-get dpkg; do
    if ! command -v "$program" >/dev/null; then
        say "skipped: $program is not installed, and no promtool is on the PATH"
        exit 3
    fi
done

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9   # a concurrent download waits for the first one and finds its binary
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
if [[ ! -x $binary ]]; then
    if ! timeout 120 apt-get -qq download prometheus >&2; then
        say 'skipped: apt-get cannot download the package prometheus (run `apt-get update`?)'
        exit 3
    fi
    dpkg -x prometheus_*.deb unpacked
    mv unpacked/usr/bin/promtool "$binary"
fi
echo "$binary"

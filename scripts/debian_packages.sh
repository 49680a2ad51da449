#!/bin/sh
# Install the Debian packages of a list file that are not there yet; say so clearly where that is not permitted.
set -eu
list=$1
missing=""
for package in $(grep -v '^#' "$list"); do
    state=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
    [ "$state" = "install ok installed" ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
as_root=""
if [ "$(id -u)" != 0 ]; then
    if command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
        as_root="sudo -n"
    else
        echo "These Debian packages are missing and only root can install them:" >&2
        echo "    sudo apt-get install$missing" >&2
        exit 1
    fi
fi
echo "installing Debian packages:$missing" >&2
$as_root apt-get update -qq
# no service of a test component may start by itself on this machine
DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 $as_root apt-get install -y -qq --no-install-recommends $missing >&2

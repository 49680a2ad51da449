#!/bin/sh
# Install the Debian packages of a list file that are not there yet; say so clearly where that is not permitted.
# They are tools for the suite: no service among them is started, now or at the next boot.
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
# invoke-rc.d and deb-systemd-invoke ask this file first; 101 means "forbidden". One that is there already stays.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap '$as_root rm -f "$policy"' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
fi
units() { (cd /lib/systemd/system 2>/dev/null && ls -- *.service 2>/dev/null) | grep -v '^systemd-\|@' || true; }
before=" $(units | tr '\n' ' ') "
$as_root apt-get update -qq
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >&2
# what apt enabled for the next boot is switched off again; systemctl only moves links here and needs no systemd
for unit in $(units); do
    case "$before" in *" $unit "*) continue ;; esac
    $as_root systemctl disable --quiet "$unit" >/dev/null 2>&1 || true
done

#!/bin/sh
# Install OpenSSH's server from Debian, where it is missing and we are root; prints its path.
set -eu
if [ ! -x /usr/sbin/sshd ]; then
    if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
        echo "openssh-server is missing: install it as root" >&2
        exit 1
    fi
    # policy-rc.d keeps the package from starting a server of its own
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' > "$policy"
        chmod 755 "$policy"
        trap 'rm -f "$policy"' EXIT
    fi
    DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends -y openssh-server openssh-client > /dev/null ||
        { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends -y openssh-server openssh-client > /dev/null; }
fi
echo /usr/sbin/sshd

#!/bin/sh
# Slurm, its REST daemon and MariaDB for accounting, as Debian packages. Needs root, once; nothing is started.
set -eu
has_all() {
    for program in slurmctld slurmd slurmrestd slurmdbd munged mariadbd mariadb-install-db; do
        PATH="$PATH:/usr/sbin" command -v "$program" > /dev/null || return 1
    done
    ls /usr/lib/*/slurm-wlm/auth_jwt.so > /dev/null 2>&1
}
if ! has_all; then
    if [ "$(id -u)" != 0 ]; then
        echo "slurm: not installed, and only root can: see tests/engines/slurm/README.md" >&2
        exit 0
    fi
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
        slurmctld slurmd slurm-client slurmrestd slurmdbd munge slurm-wlm-jwt-plugin slurm-wlm-mysql-plugin mariadb-server
fi
# The newer Slurm, of Debian 13, in a tree of its own that its daemons are started in (chroot).
newer="${FEDBROKER_CACHE:-$HOME/.cache/fedbroker}/slurm-24.11"
if [ ! -e "$newer/usr/sbin/slurmctld" ] && [ "$(id -u)" = 0 ]; then
    command -v debootstrap > /dev/null || DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends debootstrap
    mkdir -p "$(dirname "$newer")"
    rm -rf "$newer.draft"
    debootstrap --variant=minbase \
        --include=slurmctld,slurmd,slurm-client,slurmrestd,munge,slurm-wlm-jwt-plugin,python3-minimal \
        trixie "$newer.draft" ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"}
    rm -rf "$newer.draft/var/cache/apt/archives"
    mv "$newer.draft" "$newer"
fi

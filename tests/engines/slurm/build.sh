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

#!/bin/bash
# Slurm's Prolog for cvmfs-run: mounts and checks repositories, and makes the job's directory.
#
# A job names repositories in its comment: #SBATCH --comment=cvmfs=unpacked.cern.ch,sft.cern.ch
# Those that every job needs are named here. One of these that does not answer drains the node, as
# every failing prolog does; one that a job names fails that job alone, at the start of its
# container, with the reason.
repositories=
jobs=/var/spool/cvmfs-run
patience=60 # seconds that a repository may take

set -u
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# Mounted by autofs when it is looked at, or by us; a dead client still answers stat, never readdir.
answers() {
    [[ $1 =~ ^[A-Za-z0-9_-][A-Za-z0-9._-]*$ ]] || return 1
    timeout -k 1 "$patience" ls -U "/cvmfs/$1/." >/dev/null 2>&1 &&
        mountpoint -q "/cvmfs/$1" && return
    command -v cvmfs2 >/dev/null || return 1
    mkdir -p "/cvmfs/$1" && timeout -k 1 "$patience" mount -t cvmfs "$1" "/cvmfs/$1" &&
        timeout -k 1 "$patience" ls -U "/cvmfs/$1/." >/dev/null 2>&1
}

asked=
[[ " ${SLURM_JOB_COMMENT-} " =~ [[:space:]\;]cvmfs=([^[:space:]\;]*) ]] && asked=${BASH_REMATCH[1]}
for repository in ${asked//,/ }; do
    answers "$repository" || logger -t cvmfs-run "job $SLURM_JOB_ID asks for $repository, which does not answer"
done
for repository in $repositories; do
    answers "$repository" || { logger -t cvmfs-run "$repository does not answer on this node"; exit 1; }
done

# The job's own: states of containers, what they write, and podman's runtime directory.
umask 022
mkdir -p "$jobs" || exit 1
[ -d "$jobs/$SLURM_JOB_ID" ] || mkdir -m 700 "$jobs/$SLURM_JOB_ID" || exit 1
chown "$SLURM_JOB_UID:$(id -g "$SLURM_JOB_UID")" "$jobs/$SLURM_JOB_ID"

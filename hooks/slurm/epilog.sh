#!/bin/bash
# Slurm's Epilog for cvmfs-run: nothing of a job stays, neither process, nor mount, nor directory.
jobs=/var/spool/cvmfs-run

set -u
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
job=$jobs/$SLURM_JOB_ID
[ -d "$job" ] || exit 0

# Containers leave their batch script's process tree, and may leave Slurm's sight. The job's own
# processes have its number in their environment, podman's helpers its directory (node.sbatch), and
# all that they started are their children.
family() {
    local found=" $1 " pid parent more=1
    while [ -n "$more" ]; do
        more=
        while read -r pid parent; do
            [[ $found == *" $parent "* && $found != *" $pid "* ]] && found+="$pid " more=1
        done < <(ps -e -o pid=,ppid=)
    done
    echo "$found"
}
if [ "$SLURM_JOB_UID" != 0 ]; then
    of_job=
    for environ in $(grep -lszxF -e "SLURM_JOB_ID=$SLURM_JOB_ID" -e "XDG_RUNTIME_DIR=$job" /proc/[0-9]*/environ); do
        process=${environ%/environ}
        # Slurm's own daemons, and this script, are root's.
        [ "$(stat -c %u "$process" 2>/dev/null)" = 0 ] || of_job+=" ${process#/proc/}"
    done
    [ -z "$of_job" ] || kill -KILL $(family "$of_job") 2>/dev/null
fi

# As the user: what lies there is the user's, and root must not believe it.
for state in "$job"/*/state.json "$job"/*/*/state.json; do
    [ -e "$state" ] || continue
    container=${state%/state.json}
    setpriv --reuid "$SLURM_JOB_UID" --regid "$(id -g "$SLURM_JOB_UID")" --init-groups \
        timeout -k 1 30 cvmfs-run --root "${container%/*}" delete --force "${container##*/}"
done
# Mounts are in namespaces that have ended with their processes; the files may be of any mapped ID.
rm -rf --one-file-system "$job"

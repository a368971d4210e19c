# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_cvmfs_run_global_optspecs
    string join \n debug log= log-format= log-level= root= systemd-cgroup cgroup-manager= config= v/version h/help
end

function __fish_cvmfs_run_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_cvmfs_run_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_cvmfs_run_using_subcommand
    set -l cmd (__fish_cvmfs_run_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c cvmfs-run -n "__fish_cvmfs_run_needs_command" -l log -d 'Write the log to this file, instead of standard error' -r -F
complete -c cvmfs-run -n "__fish_cvmfs_run_needs_command" -l log-format -d 'The form of the log' -r -f -a "text\t'`time="…" level=error msg="…"`'
json\t'`{"level":"error","msg":"…","time":"…"}`'"
complete -c cvmfs-run -n "__fish_cvmfs_run_needs_command" -l log-level -d 'The least important lines that are logged' -r -f -a "debug\t'Everything'
info\t'What was done'
warning\t'What is not as it should be'
error\t'What failed'"
complete -c cvmfs-run -n "__fish_cvmfs_run_needs_command" -l root -d 'Where containers\' states are kept [default: /run/cvmfs-run, or below $XDG_RUNTIME_DIR]' -r -F
complete -c cvmfs-run -n "__fish_cvmfs_run_needs_command" -l cgroup-manager -d 'Who manages the cgroups, as crun has it' -r -f -a "cgroupfs\t'cvmfs-run writes to the cgroup file system'
systemd\t'systemd is asked by D-Bus'
disabled\t'The container stays in its engine\'s cgroup'"
complete -c cvmfs-run -n "__fish_cvmfs_run_needs_command" -l config -d 'Read this configuration instead of the site\'s' -r -F
complete -c cvmfs-run -n "__fish_cvmfs_run_needs_command" -l debug -d 'Log everything, also what libcontainer does'
complete -c cvmfs-run -n "__fish_cvmfs_run_needs_command" -l systemd-cgroup -d 'Have systemd manage the cgroups'
complete -c cvmfs-run -n "__fish_cvmfs_run_needs_command" -s v -l version -d 'Print the version'
complete -c cvmfs-run -n "__fish_cvmfs_run_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cvmfs-run -n "__fish_cvmfs_run_needs_command" -f -a "create" -d 'Create a container; its process waits for `start`'
complete -c cvmfs-run -n "__fish_cvmfs_run_needs_command" -f -a "delete" -d 'Delete a container that has stopped'
complete -c cvmfs-run -n "__fish_cvmfs_run_needs_command" -f -a "events" -d 'Print what a container uses'
complete -c cvmfs-run -n "__fish_cvmfs_run_needs_command" -f -a "exec" -d 'Run a further process in a container'
complete -c cvmfs-run -n "__fish_cvmfs_run_needs_command" -f -a "features" -d 'Print what this runtime can do, as the OCI runtime specification has it'
complete -c cvmfs-run -n "__fish_cvmfs_run_needs_command" -f -a "hook" -d 'Stack a container\'s root for another runtime, as a hook of podman\'s'
complete -c cvmfs-run -n "__fish_cvmfs_run_needs_command" -f -a "kill" -d 'Send a signal to a container\'s first process'
complete -c cvmfs-run -n "__fish_cvmfs_run_needs_command" -f -a "list" -d 'Print all containers'
complete -c cvmfs-run -n "__fish_cvmfs_run_needs_command" -f -a "pause" -d 'Freeze all processes of a container'
complete -c cvmfs-run -n "__fish_cvmfs_run_needs_command" -f -a "ps" -d 'Print the processes of a container'
complete -c cvmfs-run -n "__fish_cvmfs_run_needs_command" -f -a "resume" -d 'Let a paused container go on'
complete -c cvmfs-run -n "__fish_cvmfs_run_needs_command" -f -a "run" -d 'Create a container, start it, and wait until it has ended'
complete -c cvmfs-run -n "__fish_cvmfs_run_needs_command" -f -a "spec" -d 'Write a config.json to begin with'
complete -c cvmfs-run -n "__fish_cvmfs_run_needs_command" -f -a "start" -d 'Start a container that was created'
complete -c cvmfs-run -n "__fish_cvmfs_run_needs_command" -f -a "state" -d 'Print the state of a container, as the OCI runtime specification has it'
complete -c cvmfs-run -n "__fish_cvmfs_run_needs_command" -f -a "update" -d 'Change the limits of a container'
complete -c cvmfs-run -n "__fish_cvmfs_run_needs_command" -f -a "checkpoint" -d 'Write a running container to disk (needs a fallback runtime, and criu)'
complete -c cvmfs-run -n "__fish_cvmfs_run_needs_command" -f -a "restore" -d 'Let a container go on from what was written (needs a fallback runtime, and criu)'
complete -c cvmfs-run -n "__fish_cvmfs_run_needs_command" -f -a "configure" -d 'Tell podman, Docker, containerd or Slurm of this runtime, or take that back'
complete -c cvmfs-run -n "__fish_cvmfs_run_needs_command" -f -a "check" -d 'Say what works on this host for the calling user, with a remedy for what does not'
complete -c cvmfs-run -n "__fish_cvmfs_run_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand create" -s b -l bundle -d 'The bundle\'s directory' -r -F
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand create" -s f -l config -d 'The name of the configuration in the bundle' -r -F
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand create" -l console-socket -d 'The socket to which the master of the container\'s terminal is sent' -r -F
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand create" -l pidfd-socket -d 'The socket to which a descriptor of the container\'s process is sent' -r -F
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand create" -l pid-file -d 'The file that the number of the container\'s process is written to' -r -F
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand create" -l preserve-fds -d 'Hand that many further descriptors, from 3 on, to the container' -r
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand create" -l no-pivot -d 'Move the root instead of pivoting, for a root on a ramdisk'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand create" -l no-new-keyring -d 'Keep the caller\'s session keyring'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand create" -l no-subreaper -d 'Accepted for crun\'s callers; nothing of a created container is left to this process'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand create" -s h -l help -d 'Print help'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand delete" -s f -l force -d 'Kill the container first, and do not mind when there is none'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand delete" -s r -l regex -d 'Take the name for a regular expression: all containers that it matches'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand delete" -s h -l help -d 'Print help'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand events" -l interval -d 'The time between two lines: 5s, 500ms' -r
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand events" -l stats -d 'Print once, and end'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand events" -s h -l help -d 'Print help'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand exec" -l console-socket -d 'The socket to which the master of the process\'s terminal is sent' -r -F
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand exec" -l pidfd-socket -d 'The socket to which a descriptor of the process is sent' -r -F
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand exec" -l cwd -d 'The working directory' -r
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand exec" -s e -l env -d 'A variable of the environment' -r
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand exec" -s u -l user -d 'The user: UID[:GID]' -r
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand exec" -s g -l additional-gids -d 'A supplementary group' -r
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand exec" -s p -l process -d 'The process as a file in the form of config.json\'s `process`' -r -F
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand exec" -l pid-file -d 'The file that the number of the process is written to' -r -F
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand exec" -l process-label -d 'The label of the process, for SELinux' -r
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand exec" -l apparmor -d 'The profile of the process, for AppArmor' -r
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand exec" -s c -l cap -d 'A capability that is added' -r
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand exec" -l preserve-fds -d 'Hand that many further descriptors, from 3 on, to the process' -r
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand exec" -l cgroup -d 'Run it in a cgroup below the container\'s' -r
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand exec" -s t -l tty -d 'Give it a terminal'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand exec" -s d -l detach -d 'Do not wait for the process to end'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand exec" -l no-new-privs -d 'The process can gain no privileges'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand exec" -l ignore-paused -d 'Do so though the container is paused'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand exec" -s h -l help -d 'Print help'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand features" -s h -l help -d 'Print help'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand hook; and not __fish_seen_subcommand_from precreate poststop help" -s h -l help -d 'Print help'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand hook; and not __fish_seen_subcommand_from precreate poststop help" -f -a "precreate" -d 'Stack the root of the config.json on standard input, and print that again'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand hook; and not __fish_seen_subcommand_from precreate poststop help" -f -a "poststop" -d 'Take away what was mounted for the container whose state is on standard input'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand hook; and not __fish_seen_subcommand_from precreate poststop help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand hook; and __fish_seen_subcommand_from precreate" -s h -l help -d 'Print help'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand hook; and __fish_seen_subcommand_from poststop" -s h -l help -d 'Print help'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand hook; and __fish_seen_subcommand_from help" -f -a "precreate" -d 'Stack the root of the config.json on standard input, and print that again'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand hook; and __fish_seen_subcommand_from help" -f -a "poststop" -d 'Take away what was mounted for the container whose state is on standard input'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand hook; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand kill" -s a -l all -d 'Send it to all of its processes'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand kill" -s r -l regex -d 'Take the name for a regular expression: all containers that it matches'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand kill" -s h -l help -d 'Print help'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand list" -s f -l format -d 'As a table or as JSON' -r -f -a "table\t'A line each'
json\t'A list of states'"
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand list" -s q -l quiet -d 'Their names alone'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand pause" -s h -l help -d 'Print help'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand ps" -s f -l format -d 'As a table, or their numbers as JSON' -r -f -a "table\t'ps(1)\'s lines'
json\t'A list of numbers'"
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand ps" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand resume" -s h -l help -d 'Print help'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand run" -s b -l bundle -d 'The bundle\'s directory' -r -F
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand run" -s f -l config -d 'The name of the configuration in the bundle' -r -F
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand run" -l console-socket -d 'The socket to which the master of the container\'s terminal is sent' -r -F
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand run" -l pidfd-socket -d 'The socket to which a descriptor of the container\'s process is sent' -r -F
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand run" -l pid-file -d 'The file that the number of the container\'s process is written to' -r -F
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand run" -l preserve-fds -d 'Hand that many further descriptors, from 3 on, to the container' -r
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand run" -s d -l detach -d 'Do not wait for the container to end'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand run" -l keep -d 'Leave the stopped container to be looked at'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand run" -l no-subreaper -d 'Leave orphans of the container to the system, rather than to this process'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand run" -l no-pivot -d 'Move the root instead of pivoting, for a root on a ramdisk'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand run" -l no-new-keyring -d 'Keep the caller\'s session keyring'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand run" -s h -l help -d 'Print help'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand spec" -s b -l bundle -d 'The bundle\'s directory' -r -F
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand spec" -s f -l file -d 'The name of the file' -r -F
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand spec" -l rootless -d 'For a container of an ordinary user'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand spec" -s h -l help -d 'Print help'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand start" -s h -l help -d 'Print help'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand state" -s h -l help -d 'Print help'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand update" -s r -l resources -d 'Read all limits from this file (- is standard input), in the form of linux.resources' -r -F
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand update" -l blkio-weight -d 'Weight of the container\'s block I/O, 10 to 1000' -r
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand update" -l cpu-period -d 'CPU period of the hard limit, in microseconds' -r
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand update" -l cpu-quota -d 'CPU time allowed in a period, in microseconds' -r
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand update" -l cpu-rt-period -d 'CPU period of real-time scheduling, in microseconds' -r
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand update" -l cpu-rt-runtime -d 'CPU time of real-time scheduling in a period, in microseconds' -r
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand update" -l cpu-shares -l cpu-share -d 'Share of CPU time beside other containers' -r
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand update" -l cpuset-cpus -d 'CPUs to use: 0-2,7' -r
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand update" -l cpuset-mems -d 'Memory nodes to use' -r
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand update" -l memory -d 'Memory limit, in bytes' -r
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand update" -l memory-reservation -d 'Soft memory limit, in bytes' -r
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand update" -l memory-swap -d 'Limit of memory and swap together, in bytes; -1 is none' -r
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand update" -l kernel-memory -d 'Accepted for runc\'s callers; the kernel no longer has this limit' -r
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand update" -l kernel-memory-tcp -d 'Accepted for runc\'s callers; the kernel no longer has this limit' -r
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand update" -l pids-limit -d 'Number of processes; -1 is no limit' -r
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand update" -l l3-cache-schema -d 'Intel\'s schema of the L3 cache' -r
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand update" -l mem-bw-schema -d 'Intel\'s schema of the memory bandwidth' -r
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand update" -s h -l help -d 'Print help'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand checkpoint" -l image-path -d 'Where criu\'s images lie' -r -F
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand checkpoint" -l work-path -d 'Where criu keeps its log' -r -F
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand checkpoint" -l manage-cgroups-mode -d 'How cgroups are written and brought back: soft, full, strict or ignore' -r
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand checkpoint" -l empty-ns -d 'A kind of namespace whose properties are left out' -r
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand checkpoint" -l parent-path -d 'The images of an earlier --pre-dump' -r -F
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand checkpoint" -l status-fd -d 'Where criu says, by a NUL byte, that lazy pages are ready' -r
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand checkpoint" -l page-server -d 'The page server' -r
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand checkpoint" -l tcp-established -d 'Allow open TCP connections'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand checkpoint" -l ext-unix-sk -d 'Allow Unix sockets whose other end is outside'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand checkpoint" -l shell-job -d 'Allow a terminal\'s job'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand checkpoint" -l lazy-pages -d 'Bring memory back when it is used'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand checkpoint" -l file-locks -d 'Handle locks of files'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand checkpoint" -l auto-dedup -d 'Write no page twice'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand checkpoint" -l leave-running -d 'Let the container run on'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand checkpoint" -l pre-dump -d 'Write the memory alone, and let the container run on'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand checkpoint" -s h -l help -d 'Print help'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand restore" -l image-path -d 'Where criu\'s images lie' -r -F
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand restore" -l work-path -d 'Where criu keeps its log' -r -F
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand restore" -l manage-cgroups-mode -d 'How cgroups are written and brought back: soft, full, strict or ignore' -r
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand restore" -l empty-ns -d 'A kind of namespace whose properties are left out' -r
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand restore" -s b -l bundle -d 'The bundle\'s directory' -r -F
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand restore" -l console-socket -d 'The socket to which the master of the container\'s terminal is sent' -r -F
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand restore" -l pid-file -d 'The file that the number of the container\'s process is written to' -r -F
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand restore" -l lsm-profile -d 'The profile of a security module: TYPE:NAME' -r
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand restore" -l lsm-mount-context -d 'The mount label, for SELinux' -r
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand restore" -l tcp-established -d 'Allow open TCP connections'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand restore" -l ext-unix-sk -d 'Allow Unix sockets whose other end is outside'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand restore" -l shell-job -d 'Allow a terminal\'s job'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand restore" -l lazy-pages -d 'Bring memory back when it is used'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand restore" -l file-locks -d 'Handle locks of files'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand restore" -l auto-dedup -d 'Write no page twice'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand restore" -s d -l detach -d 'Do not wait for the container to end'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand restore" -l no-subreaper -d 'Leave orphans of the container to the system'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand restore" -l no-pivot -d 'Move the root instead of pivoting'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand restore" -s h -l help -d 'Print help'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand configure" -l program -d 'The path of cvmfs-run on the host [default: that of this program]' -r -F
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand configure" -l destdir -d 'Write below this directory, for the image of a host that is being made' -r -F
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand configure" -l dry-run -d 'Print the file that would be written, and write nothing'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand configure" -l user -d 'For the calling user\'s containers alone'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand configure" -l remove -d 'Remove the file, if it is as it was written'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand configure" -l default -d 'Have it run containers that ask for no runtime'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand configure" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand check" -l json -d 'Print a JSON array of objects with verdict, what, found and remedy'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand help; and not __fish_seen_subcommand_from create delete events exec features hook kill list pause ps resume run spec start state update checkpoint restore configure check help" -f -a "create" -d 'Create a container; its process waits for `start`'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand help; and not __fish_seen_subcommand_from create delete events exec features hook kill list pause ps resume run spec start state update checkpoint restore configure check help" -f -a "delete" -d 'Delete a container that has stopped'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand help; and not __fish_seen_subcommand_from create delete events exec features hook kill list pause ps resume run spec start state update checkpoint restore configure check help" -f -a "events" -d 'Print what a container uses'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand help; and not __fish_seen_subcommand_from create delete events exec features hook kill list pause ps resume run spec start state update checkpoint restore configure check help" -f -a "exec" -d 'Run a further process in a container'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand help; and not __fish_seen_subcommand_from create delete events exec features hook kill list pause ps resume run spec start state update checkpoint restore configure check help" -f -a "features" -d 'Print what this runtime can do, as the OCI runtime specification has it'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand help; and not __fish_seen_subcommand_from create delete events exec features hook kill list pause ps resume run spec start state update checkpoint restore configure check help" -f -a "hook" -d 'Stack a container\'s root for another runtime, as a hook of podman\'s'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand help; and not __fish_seen_subcommand_from create delete events exec features hook kill list pause ps resume run spec start state update checkpoint restore configure check help" -f -a "kill" -d 'Send a signal to a container\'s first process'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand help; and not __fish_seen_subcommand_from create delete events exec features hook kill list pause ps resume run spec start state update checkpoint restore configure check help" -f -a "list" -d 'Print all containers'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand help; and not __fish_seen_subcommand_from create delete events exec features hook kill list pause ps resume run spec start state update checkpoint restore configure check help" -f -a "pause" -d 'Freeze all processes of a container'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand help; and not __fish_seen_subcommand_from create delete events exec features hook kill list pause ps resume run spec start state update checkpoint restore configure check help" -f -a "ps" -d 'Print the processes of a container'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand help; and not __fish_seen_subcommand_from create delete events exec features hook kill list pause ps resume run spec start state update checkpoint restore configure check help" -f -a "resume" -d 'Let a paused container go on'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand help; and not __fish_seen_subcommand_from create delete events exec features hook kill list pause ps resume run spec start state update checkpoint restore configure check help" -f -a "run" -d 'Create a container, start it, and wait until it has ended'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand help; and not __fish_seen_subcommand_from create delete events exec features hook kill list pause ps resume run spec start state update checkpoint restore configure check help" -f -a "spec" -d 'Write a config.json to begin with'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand help; and not __fish_seen_subcommand_from create delete events exec features hook kill list pause ps resume run spec start state update checkpoint restore configure check help" -f -a "start" -d 'Start a container that was created'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand help; and not __fish_seen_subcommand_from create delete events exec features hook kill list pause ps resume run spec start state update checkpoint restore configure check help" -f -a "state" -d 'Print the state of a container, as the OCI runtime specification has it'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand help; and not __fish_seen_subcommand_from create delete events exec features hook kill list pause ps resume run spec start state update checkpoint restore configure check help" -f -a "update" -d 'Change the limits of a container'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand help; and not __fish_seen_subcommand_from create delete events exec features hook kill list pause ps resume run spec start state update checkpoint restore configure check help" -f -a "checkpoint" -d 'Write a running container to disk (needs a fallback runtime, and criu)'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand help; and not __fish_seen_subcommand_from create delete events exec features hook kill list pause ps resume run spec start state update checkpoint restore configure check help" -f -a "restore" -d 'Let a container go on from what was written (needs a fallback runtime, and criu)'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand help; and not __fish_seen_subcommand_from create delete events exec features hook kill list pause ps resume run spec start state update checkpoint restore configure check help" -f -a "configure" -d 'Tell podman, Docker, containerd or Slurm of this runtime, or take that back'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand help; and not __fish_seen_subcommand_from create delete events exec features hook kill list pause ps resume run spec start state update checkpoint restore configure check help" -f -a "check" -d 'Say what works on this host for the calling user, with a remedy for what does not'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand help; and not __fish_seen_subcommand_from create delete events exec features hook kill list pause ps resume run spec start state update checkpoint restore configure check help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand help; and __fish_seen_subcommand_from hook" -f -a "precreate" -d 'Stack the root of the config.json on standard input, and print that again'
complete -c cvmfs-run -n "__fish_cvmfs_run_using_subcommand help; and __fish_seen_subcommand_from hook" -f -a "poststop" -d 'Take away what was mounted for the container whose state is on standard input'

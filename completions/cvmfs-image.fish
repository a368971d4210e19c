# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_cvmfs_image_global_optspecs
    string join \n h/help V/version
end

function __fish_cvmfs_image_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_cvmfs_image_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_cvmfs_image_using_subcommand
    set -l cmd (__fish_cvmfs_image_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c cvmfs-image -n "__fish_cvmfs_image_needs_command" -s h -l help -d 'Print help'
complete -c cvmfs-image -n "__fish_cvmfs_image_needs_command" -s V -l version -d 'Print version'
complete -c cvmfs-image -n "__fish_cvmfs_image_needs_command" -f -a "thin" -d 'Make a thin image of an image whose layers lie unpacked in a repository'
complete -c cvmfs-image -n "__fish_cvmfs_image_needs_command" -f -a "unpack" -d 'Unpack an OCI image layout into a directory in the layout of a repository'
complete -c cvmfs-image -n "__fish_cvmfs_image_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand thin" -s o -l output -d 'Where the OCI layout is written: a new or empty directory, or a layout to add to' -r -F
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand thin" -s r -l repository -d 'The repository that has the image: a name below --cvmfs-root, or a path; may be repeated, and is then searched in that order [default: all that are mounted]' -r
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand thin" -l cvmfs-root -d 'Where repositories are mounted' -r -F
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand thin" -s t -l tag -d 'What the layout calls the image, and newer podmans then call it, too [default: the image\'s own tag]' -r
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand thin" -l config -d 'The image\'s configuration, if the repository does not have it; its digest is checked' -r -F
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand thin" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand unpack" -s n -l name -d 'The name that the image gets: [REGISTRY/]REPOSITORY[:TAG]' -r
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand unpack" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand help; and not __fish_seen_subcommand_from thin unpack help" -f -a "thin" -d 'Make a thin image of an image whose layers lie unpacked in a repository'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand help; and not __fish_seen_subcommand_from thin unpack help" -f -a "unpack" -d 'Unpack an OCI image layout into a directory in the layout of a repository'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand help; and not __fish_seen_subcommand_from thin unpack help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'

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
complete -c cvmfs-image -n "__fish_cvmfs_image_needs_command" -f -a "pull" -d 'Put the thin image of a name into podman\'s store, under that name'
complete -c cvmfs-image -n "__fish_cvmfs_image_needs_command" -f -a "ls" -d 'List the images that lie unpacked in the repositories'
complete -c cvmfs-image -n "__fish_cvmfs_image_needs_command" -f -a "inspect" -d 'Show an image of the repositories: its configuration, and where each layer lies'
complete -c cvmfs-image -n "__fish_cvmfs_image_needs_command" -f -a "link" -d 'Let podman show the files of a thin image also where no container runs'
complete -c cvmfs-image -n "__fish_cvmfs_image_needs_command" -f -a "verify" -d 'Verify that the layers of an image are there, readable, and what they should be'
complete -c cvmfs-image -n "__fish_cvmfs_image_needs_command" -f -a "stat" -d 'Show what was fetched for a running container'
complete -c cvmfs-image -n "__fish_cvmfs_image_needs_command" -f -a "prune" -d 'Remove thin images and local layers that nothing uses any more'
complete -c cvmfs-image -n "__fish_cvmfs_image_needs_command" -f -a "thin" -d 'Make a thin image of an image whose layers lie unpacked in a repository'
complete -c cvmfs-image -n "__fish_cvmfs_image_needs_command" -f -a "bundle" -d 'Write an image as an OCI bundle: a config.json and an empty directory'
complete -c cvmfs-image -n "__fish_cvmfs_image_needs_command" -f -a "push" -d 'Put the thin image of a name into a registry'
complete -c cvmfs-image -n "__fish_cvmfs_image_needs_command" -f -a "flatten" -d 'Make a thin image, or one derived from it, an ordinary full image'
complete -c cvmfs-image -n "__fish_cvmfs_image_needs_command" -f -a "unpack" -d 'Unpack an OCI image layout into a directory in the layout of a repository'
complete -c cvmfs-image -n "__fish_cvmfs_image_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand pull" -s r -l repository -d 'The repository to look into: a name below --cvmfs-root, or a path; may be repeated, and is then searched in that order [default: all that are mounted]' -r
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand pull" -l cvmfs-root -d 'Where repositories are mounted' -r -F
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand pull" -l source -d 'Who tells the image\'s manifest and configuration: the repositories, or its registry; may be repeated, and is then tried in that order [default: as in cvmfs-run.toml, cvmfs, registry]' -r -f -a "cvmfs\t'The repositories that are mounted'
registry\t'The image\'s registry'"
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand pull" -l name -d 'What the image is called, if NAME is only a place where it lies' -r
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand pull" -l platform -d 'Which image of those for several platforms: OS/ARCHITECTURE[/VARIANT] [default: the host\'s]' -r
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand pull" -l config -d 'The image\'s configuration, if nobody else has it; its digest is checked' -r -F
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand pull" -l layer -d 'A directory with the files of a layer, in place of those that a manifest names; repeated, the lowest first' -r -F
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand pull" -l to -d 'Where to put it instead, as skopeo would be told: oci:DIR[:TAG], oci-archive:FILE, docker-archive:FILE, docker-daemon:NAME:TAG, docker://NAME, containers-storage:NAME or dir:DIR' -r
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand pull" -l complete -d 'Fetch the layers that no repository has into a tree of local layers, which the runtime knows'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand pull" -l annotation-only -d 'Name the layers in the annotations of the manifest alone, without a descriptor in the image; images built from it, and engines other than podman, then know nothing of them'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand pull" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand ls" -s r -l repository -d 'The repository to look into: a name below --cvmfs-root, or a path; may be repeated, and is then searched in that order [default: all that are mounted]' -r
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand ls" -l cvmfs-root -d 'Where repositories are mounted' -r -F
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand ls" -s l -l long -d 'Tell also the number of layers, their compressed size, whether the whole image lies there as one directory (flat), and the repository'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand ls" -l podman -d 'Tell also what podman has under the name: `current`, the image as the repository has it, thin or whole; `older`, a thin image of another state of it; `other`, anything else; or -'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand ls" -l json -d 'Write a JSON object a line'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand ls" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand inspect" -s r -l repository -d 'The repository to look into: a name below --cvmfs-root, or a path; may be repeated, and is then searched in that order [default: all that are mounted]' -r
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand inspect" -l cvmfs-root -d 'Where repositories are mounted' -r -F
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand inspect" -l files -d 'Look at every file: tell of each layer the number and size of its files, and what it deletes or hides of the layers beneath (whiteouts and opaque directories)'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand inspect" -l json -d 'Write JSON; `config` is the image\'s own, unchanged'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand inspect" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand link" -l remove -d 'Take the links away'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand link" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand verify" -s r -l repository -d 'The repository to look into: a name below --cvmfs-root, or a path; may be repeated, and is then searched in that order [default: all that are mounted]' -r
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand verify" -l cvmfs-root -d 'Where repositories are mounted' -r -F
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand verify" -l against -d 'The true image, as skopeo would be told; what is no oci:DIR[:TAG] is fetched whole into a temporary directory' -r
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand verify" -l json -d 'Write JSON'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand verify" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand stat" -s r -l repository -d 'The repository to look into: a name below --cvmfs-root, or a path; may be repeated, and is then searched in that order [default: all that are mounted]' -r
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand stat" -l cvmfs-root -d 'Where repositories are mounted' -r -F
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand stat" -l interval -d 'Then show what came in each so many seconds' -r
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand stat" -l count -d 'How often [default: until it is interrupted]' -r
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand stat" -l files -d 'Ask the client of each file of the image whether it lies in its cache'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand stat" -l json -d 'Write JSON, an object a line'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand stat" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand prune" -l local -d 'The tree of local layers [default: local in cvmfs-run.toml; else /var/lib/cvmfs-run/layers for root, $XDG_DATA_HOME/cvmfs-run/layers for others]' -r -F
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand prune" -s r -l repository -d 'The repository to look into: a name below --cvmfs-root, or a path; may be repeated, and is then searched in that order [default: all that are mounted]' -r
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand prune" -l cvmfs-root -d 'Where repositories are mounted' -r -F
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand prune" -s a -l all -d 'Remove every thin image without a container, not only what lost its name or its layers'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand prune" -l images -d 'Remove images only, no local layers'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand prune" -l dry-run -d 'Remove nothing, and tell what would be removed'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand prune" -l json -d 'Write JSON'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand prune" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand thin" -s r -l repository -d 'The repository to look into: a name below --cvmfs-root, or a path; may be repeated, and is then searched in that order [default: all that are mounted]' -r
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand thin" -l cvmfs-root -d 'Where repositories are mounted' -r -F
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand thin" -l source -d 'Who tells the image\'s manifest and configuration: the repositories, or its registry; may be repeated, and is then tried in that order [default: as in cvmfs-run.toml, cvmfs, registry]' -r -f -a "cvmfs\t'The repositories that are mounted'
registry\t'The image\'s registry'"
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand thin" -l name -d 'What the image is called, if NAME is only a place where it lies' -r
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand thin" -l platform -d 'Which image of those for several platforms: OS/ARCHITECTURE[/VARIANT] [default: the host\'s]' -r
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand thin" -l config -d 'The image\'s configuration, if nobody else has it; its digest is checked' -r -F
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand thin" -l layer -d 'A directory with the files of a layer, in place of those that a manifest names; repeated, the lowest first' -r -F
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand thin" -s o -l output -d 'Where the OCI layout is written: a new or empty directory, or a layout to add to' -r -F
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand thin" -s t -l tag -d 'What the layout calls the image, and newer podmans then call it, too [default: the image\'s own tag]' -r
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand thin" -l complete -d 'Fetch the layers that no repository has into a tree of local layers, which the runtime knows'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand thin" -l annotation-only -d 'Name the layers in the annotations of the manifest alone, without a descriptor in the image; images built from it, and engines other than podman, then know nothing of them'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand thin" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand bundle" -s r -l repository -d 'The repository to look into: a name below --cvmfs-root, or a path; may be repeated, and is then searched in that order [default: all that are mounted]' -r
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand bundle" -l cvmfs-root -d 'Where repositories are mounted' -r -F
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand bundle" -l source -d 'Who tells the image\'s manifest and configuration: the repositories, or its registry; may be repeated, and is then tried in that order [default: as in cvmfs-run.toml, cvmfs, registry]' -r -f -a "cvmfs\t'The repositories that are mounted'
registry\t'The image\'s registry'"
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand bundle" -l name -d 'What the image is called, if NAME is only a place where it lies' -r
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand bundle" -l platform -d 'Which image of those for several platforms: OS/ARCHITECTURE[/VARIANT] [default: the host\'s]' -r
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand bundle" -l config -d 'The image\'s configuration, if nobody else has it; its digest is checked' -r -F
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand bundle" -l layer -d 'A directory with the files of a layer, in place of those that a manifest names; repeated, the lowest first' -r -F
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand bundle" -l entrypoint -d 'In place of the image\'s Entrypoint; empty: none' -r
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand bundle" -s v -l volume -d 'A file or directory of the host to mount, read-only with `:ro`; may be repeated' -r
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand bundle" -l rootless -d 'For an ordinary user, in a user namespace [default: unless this is root]'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand bundle" -l root -d 'For root, without a user namespace [default: if this is root]'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand bundle" -l shared -d 'For any ordinary user, and not for this one alone: as --rootless, without maps'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand bundle" -s t -l tty -d 'With a terminal, for `cvmfs-run run` in one'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand bundle" -s f -l force -d 'Write config.json anew where DIR is a bundle already'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand bundle" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand push" -s r -l repository -d 'The repository to look into: a name below --cvmfs-root, or a path; may be repeated, and is then searched in that order [default: all that are mounted]' -r
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand push" -l cvmfs-root -d 'Where repositories are mounted' -r -F
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand push" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand flatten" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand unpack" -s n -l name -d 'The name that the image gets: [REGISTRY/]REPOSITORY[:TAG]' -r
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand unpack" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand help; and not __fish_seen_subcommand_from pull ls inspect link verify stat prune thin bundle push flatten unpack help" -f -a "pull" -d 'Put the thin image of a name into podman\'s store, under that name'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand help; and not __fish_seen_subcommand_from pull ls inspect link verify stat prune thin bundle push flatten unpack help" -f -a "ls" -d 'List the images that lie unpacked in the repositories'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand help; and not __fish_seen_subcommand_from pull ls inspect link verify stat prune thin bundle push flatten unpack help" -f -a "inspect" -d 'Show an image of the repositories: its configuration, and where each layer lies'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand help; and not __fish_seen_subcommand_from pull ls inspect link verify stat prune thin bundle push flatten unpack help" -f -a "link" -d 'Let podman show the files of a thin image also where no container runs'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand help; and not __fish_seen_subcommand_from pull ls inspect link verify stat prune thin bundle push flatten unpack help" -f -a "verify" -d 'Verify that the layers of an image are there, readable, and what they should be'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand help; and not __fish_seen_subcommand_from pull ls inspect link verify stat prune thin bundle push flatten unpack help" -f -a "stat" -d 'Show what was fetched for a running container'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand help; and not __fish_seen_subcommand_from pull ls inspect link verify stat prune thin bundle push flatten unpack help" -f -a "prune" -d 'Remove thin images and local layers that nothing uses any more'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand help; and not __fish_seen_subcommand_from pull ls inspect link verify stat prune thin bundle push flatten unpack help" -f -a "thin" -d 'Make a thin image of an image whose layers lie unpacked in a repository'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand help; and not __fish_seen_subcommand_from pull ls inspect link verify stat prune thin bundle push flatten unpack help" -f -a "bundle" -d 'Write an image as an OCI bundle: a config.json and an empty directory'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand help; and not __fish_seen_subcommand_from pull ls inspect link verify stat prune thin bundle push flatten unpack help" -f -a "push" -d 'Put the thin image of a name into a registry'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand help; and not __fish_seen_subcommand_from pull ls inspect link verify stat prune thin bundle push flatten unpack help" -f -a "flatten" -d 'Make a thin image, or one derived from it, an ordinary full image'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand help; and not __fish_seen_subcommand_from pull ls inspect link verify stat prune thin bundle push flatten unpack help" -f -a "unpack" -d 'Unpack an OCI image layout into a directory in the layout of a repository'
complete -c cvmfs-image -n "__fish_cvmfs_image_using_subcommand help; and not __fish_seen_subcommand_from pull ls inspect link verify stat prune thin bundle push flatten unpack help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'

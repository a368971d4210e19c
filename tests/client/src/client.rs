//! The client: a repository as a FUSE file system.
//!
//! The crate's own `CernvmFileSystem` could be wrapped, but what it gets wrong lies behind replies
//! that a wrapper cannot change: device numbers are lost, every failure to download is ENOENT, and
//! attributes are kept for an hour.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    process,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use cvmfs::{
    common::MANIFEST_NAME,
    directory_entry::{Chunk, DirectoryEntry, Flags},
    fetcher::Fetcher,
    manifest::Manifest,
    repository::Repository,
};
use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    InitFlags, KernelConfig, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyXattr, Request,
    SessionACL,
};
use rustix::{
    mount::{UnmountFlags, unmount},
    process::{getegid, geteuid},
};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::{
    Failure,
    args::{Mount, Owner},
    objects::{Error, Objects},
    tree::Tree,
    write_whole,
    xattr::Answer,
};

/// How long the kernel keeps entries, attributes and the absence of entries, as with cvmfs2.
const KERNEL_CACHE: Duration = Duration::from_secs(60);
/// What statfs says of the cache's size and the length of names, as cvmfs2 does. With a length of
/// 0, an overlay of nothing but such layers finds no name at all.
const CACHE_BLOCKS: u64 = 4 << 30 >> 12;
const NAME_LENGTH: u32 = 0;
/// How long an unmounted session may take to end before the process does.
const LAST_REQUESTS: Duration = Duration::from_secs(1);

/// Mounts, and serves until SIGTERM or until someone else unmounts.
pub fn run(args: &Mount) -> Result<(), Failure> {
    if let Some(file) = &args.ready_file {
        fs::remove_file(file).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })?;
    }
    let mountpoint = args.mountpoint.canonicalize()?;
    fs::create_dir_all(&args.cache)?;
    let cache = args.cache.canonicalize()?;
    let objects = Objects::new(&args.url, &cache, Duration::from_secs(args.timeout))?;
    // The crate would take a minute to find out that there is no server.
    objects.probe(MANIFEST_NAME)?;
    let cache = cache.to_str().ok_or("the cache's path is not UTF-8")?;
    let repository = Repository::new(Fetcher::new(objects.url(), cache, true)?)?;

    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName("cvmfs2".to_owned()),
        MountOption::RO,
        MountOption::NoSuid,
        MountOption::NoDev,
        MountOption::DefaultPermissions,
    ];
    config.acl = SessionACL::All;
    config.n_threads = Some(args.threads.max(1));
    config.clone_fd = true;
    let client = Client::new(objects, repository.manifest, args)?;
    let session = fuser::spawn_mount2(client, &mountpoint, &config)?;

    let (tell, told) = mpsc::channel();
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let signalled = tell.clone();
    thread::spawn(move || signals.forever().next().map(|_| signalled.send(None)));
    thread::spawn(move || tell.send(Some(session.join())));
    if let Some(file) = &args.ready_file {
        write_whole(file, &format!("{}\n", process::id()))?;
    }
    let ended = match told.recv()? {
        Some(ended) => ended,
        None => {
            take_down(&mountpoint)?;
            told.recv_timeout(LAST_REQUESTS)
                .ok()
                .flatten()
                .unwrap_or(Ok(()))
        }
    };
    if let Some(file) = &args.ready_file {
        fs::remove_file(file)?;
    }
    Ok(ended?)
}

/// Unmounts at once, whoever still uses the mount.
fn take_down(mountpoint: &std::path::Path) -> Result<(), Failure> {
    match unmount(mountpoint, UnmountFlags::DETACH) {
        Err(rustix::io::Errno::PERM) => {
            let helper = process::Command::new("fusermount3")
                .args(["-u", "-z", "--"])
                .arg(mountpoint)
                .status()?;
            if helper.success() {
                Ok(())
            } else {
                Err("cannot unmount".into())
            }
        }
        done => Ok(done?),
    }
}

/// A file, directory or anything else that the kernel knows by its inode number.
#[derive(Debug)]
struct Node {
    ino: u64,
    parent: u64,
    path: String,
    entry: DirectoryEntry,
}

#[derive(Debug, Default)]
struct Nodes {
    by_path: HashMap<String, Arc<Node>>,
    by_ino: Vec<Arc<Node>>,
}

/// An open file.
#[derive(Debug)]
enum Open {
    Whole(File),
    Chunked(Vec<(Chunk, OnceLock<File>)>),
}

#[derive(Debug)]
struct Client {
    tree: Tree,
    manifest: Manifest,
    world_readable: bool,
    owner: Option<(u32, u32)>,
    nodes: RwLock<Nodes>,
    files: Handles<Open>,
    listings: Handles<Vec<Arc<Node>>>,
    mounted: Instant,
    opens: AtomicU64,
}

impl Client {
    fn new(objects: Objects, manifest: Manifest, args: &Mount) -> Result<Self, Error> {
        let client = Self {
            tree: Tree::new(objects, manifest.root_catalog.clone()),
            manifest,
            world_readable: args.world_readable,
            owner: args.claim_ownership.map(|owner| match owner {
                Owner::Mounter => (geteuid().as_raw(), getegid().as_raw()),
                Owner::Ids(uid, gid) => (uid, gid),
            }),
            nodes: RwLock::default(),
            files: Handles::default(),
            listings: Handles::default(),
            mounted: Instant::now(),
            opens: AtomicU64::new(0),
        };
        let root = client.tree.entry("")?;
        client.intern(INodeNo::ROOT.0, vec![(String::new(), root)]);
        Ok(client)
    }

    fn node(&self, ino: INodeNo) -> Result<Arc<Node>, Error> {
        let nodes = self.nodes.read().unwrap_or_else(PoisonError::into_inner);
        let index = usize::try_from(ino.0 - INodeNo::ROOT.0).ok();
        index
            .and_then(|index| nodes.by_ino.get(index))
            .map(Arc::clone)
            .ok_or(Error::NoEntry)
    }

    /// The nodes of entries below `parent`. A path keeps its inode number until the unmount.
    fn intern(&self, parent: u64, entries: Vec<(String, DirectoryEntry)>) -> Vec<Arc<Node>> {
        let mut nodes = self.nodes.write().unwrap_or_else(PoisonError::into_inner);
        let mut node_of = |(path, entry): (String, DirectoryEntry)| {
            if let Some(node) = nodes.by_path.get(&path) {
                return Arc::clone(node);
            }
            let ino = INodeNo::ROOT.0 + nodes.by_ino.len() as u64;
            let node = Arc::new(Node {
                ino,
                parent,
                path: path.clone(),
                entry,
            });
            nodes.by_ino.push(Arc::clone(&node));
            nodes.by_path.insert(path, Arc::clone(&node));
            node
        };
        entries.into_iter().map(&mut node_of).collect()
    }

    fn child(&self, parent: INodeNo, name: &OsStr) -> Result<Arc<Node>, Error> {
        let parent = self.node(parent)?;
        let name = name.to_str().ok_or(Error::NoEntry)?;
        let path = format!("{}/{name}", parent.path);
        let known = {
            let nodes = self.nodes.read().unwrap_or_else(PoisonError::into_inner);
            nodes.by_path.get(&path).map(Arc::clone)
        };
        if let Some(node) = known {
            if node.entry.is_nested_catalog_mountpoint() {
                self.tree.touch(&path)?;
            }
            return Ok(node);
        }
        let entry = self.tree.entry(&path)?;
        self.intern(parent.ino, vec![(path, entry)])
            .pop()
            .ok_or(Error::NoEntry)
    }

    fn children(&self, ino: INodeNo) -> Result<Vec<Arc<Node>>, Error> {
        let parent = self.node(ino)?;
        let entries = self.tree.list(&parent.path)?;
        let with_path = |entry: DirectoryEntry| (format!("{}/{}", parent.path, entry.name), entry);
        Ok(self.intern(parent.ino, entries.into_iter().map(with_path).collect()))
    }

    fn open_file(&self, ino: INodeNo) -> Result<Open, Error> {
        let node = self.node(ino)?;
        if node.entry.flags & Flags::FileChunk != 0 {
            let chunks = self.tree.chunks(&node.path, &node.entry)?;
            return Ok(Open::Chunked(
                chunks.into_iter().map(|c| (c, OnceLock::new())).collect(),
            ));
        }
        let hash = node.entry.content_hash_string();
        let hash = hash.ok_or_else(|| Error::Broken(format!("{}: no hash", node.path)))?;
        Ok(Open::Whole(File::open(self.tree.objects.get(&hash, "")?)?))
    }

    /// Up to `size` bytes from `offset` on; fewer only at the end of the file.
    fn read_file(&self, open: &Open, offset: u64, size: u32) -> Result<Vec<u8>, Error> {
        let mut data = vec![0; size as usize];
        let mut filled = 0;
        match open {
            Open::Whole(file) => filled = read_full(file, &mut data, offset)?,
            Open::Chunked(chunks) => {
                let first = chunks.partition_point(|(c, _)| (c.offset + c.size) as u64 <= offset);
                for (chunk, file) in &chunks[first..] {
                    if filled == data.len() {
                        break;
                    }
                    let within = offset + filled as u64 - chunk.offset as u64;
                    let part = (chunk.size as u64 - within).min((data.len() - filled) as u64);
                    let part = &mut data[filled..filled + part as usize];
                    if read_full(self.chunk(chunk, file)?, part, within)? < part.len() {
                        return Err(Error::Broken("a chunk is too short".to_owned()));
                    }
                    filled += part.len();
                }
            }
        }
        data.truncate(filled);
        Ok(data)
    }

    fn chunk<'a>(&self, chunk: &Chunk, file: &'a OnceLock<File>) -> Result<&'a File, Error> {
        if let Some(file) = file.get() {
            return Ok(file);
        }
        let opened = File::open(self.tree.objects.get(&chunk.content_hash_string(), "P")?)?;
        Ok(file.get_or_init(|| opened))
    }

    fn attributes(&self, node: &Node) -> FileAttr {
        let entry = &node.entry;
        let kind = kind(entry);
        let device = matches!(kind, FileType::CharDevice | FileType::BlockDevice);
        let size = match kind {
            FileType::Symlink => entry.symlink.as_ref().map_or(0, String::len) as u64,
            FileType::RegularFile | FileType::Directory => entry.size as u64,
            _ => 0,
        };
        let readable = match kind {
            _ if !self.world_readable => 0,
            FileType::Directory => 0o555,
            _ => 0o444,
        };
        let time = since_epoch(entry.mtime);
        let (uid, gid) = self.owner.unwrap_or((entry.uid, entry.gid));
        FileAttr {
            ino: INodeNo(node.ino),
            size,
            blocks: size.div_ceil(512),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind,
            perm: entry.mode & 0o7777 | readable,
            nlink: entry.nlink().max(1),
            uid,
            gid,
            // A special file's catalog entry has the device number in place of the size.
            rdev: if device { entry.size as u32 } else { 0 },
            blksize: 4096,
            flags: 0,
        }
    }

    /// The attributes that answer when asked by name.
    fn magic(&self, name: &str, node: &Node) -> Option<String> {
        let objects = &self.tree.objects;
        Some(match name {
            "user.fqrn" => self.manifest.repository_name.clone(),
            "user.revision" => self.manifest.revision.to_string(),
            "user.root_hash" => self.manifest.root_catalog.clone(),
            "user.host" => objects.url().to_owned(),
            "user.proxy" => "DIRECT".to_owned(),
            "user.nclg" => self.tree.catalogs().to_string(),
            "user.ndownload" => objects.downloads().to_string(),
            // In KiB.
            "user.rx" => (objects.received() / 1024).to_string(),
            "user.nopen" => self.opens.load(Relaxed).to_string(),
            // In minutes.
            "user.uptime" => (self.mounted.elapsed().as_secs() / 60).to_string(),
            "user.pid" => process::id().to_string(),
            "user.hash" if kind(&node.entry) == FileType::RegularFile => {
                node.entry.content_hash_string()?
            }
            // The hash of the local copy. What was downloaded was checked, and is not hashed again.
            "user.lhash" if kind(&node.entry) == FileType::RegularFile => {
                let hash = node.entry.content_hash_string()?;
                match objects.has(&hash) {
                    true => hash,
                    false => "Not in cache".to_owned(),
                }
            }
            _ => return None,
        })
    }
}

fn kind(entry: &DirectoryEntry) -> FileType {
    if entry.is_symlink() {
        return FileType::Symlink;
    }
    match u32::from(entry.mode) & 0o170000 {
        0o040000 => FileType::Directory,
        0o020000 => FileType::CharDevice,
        0o060000 => FileType::BlockDevice,
        0o010000 => FileType::NamedPipe,
        0o140000 => FileType::Socket,
        _ => FileType::RegularFile,
    }
}

fn since_epoch(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    match seconds {
        0.. => SystemTime::UNIX_EPOCH + distance,
        _ => SystemTime::UNIX_EPOCH - distance,
    }
}

fn read_full(file: &File, data: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < data.len() {
        match file.read_at(&mut data[filled..], offset + filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

/// What the kernel is told of a failure; what is no fault of the asker is logged.
fn errno(error: &Error) -> Errno {
    match error {
        Error::NoEntry => Errno::ENOENT,
        Error::Broken(why) => {
            eprintln!("cvmfs-test-client: {why}");
            Errno::EIO
        }
    }
}

/// What is open, by the handles that the kernel has for it.
#[derive(Debug)]
struct Handles<T> {
    next: AtomicU64,
    open: Mutex<HashMap<u64, Arc<T>>>,
}

impl<T> Default for Handles<T> {
    fn default() -> Self {
        Self {
            next: AtomicU64::new(1),
            open: Mutex::default(),
        }
    }
}

impl<T> Handles<T> {
    fn add(&self, value: T) -> FileHandle {
        let handle = self.next.fetch_add(1, Relaxed);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.insert(handle, Arc::new(value));
        FileHandle(handle)
    }

    fn get(&self, handle: FileHandle) -> Option<Arc<T>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.get(&handle.0).map(Arc::clone)
    }

    fn remove(&self, handle: FileHandle) {
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&handle.0);
    }
}

impl Filesystem for Client {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // What libfuse asks for by itself; a kernel without it is just slower.
        for capability in [InitFlags::FUSE_PARALLEL_DIROPS, InitFlags::FUSE_ASYNC_READ] {
            config.add_capabilities(capability).ok();
        }
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.child(parent, name) {
            Ok(node) => reply.entry(&KERNEL_CACHE, &self.attributes(&node), Generation(0)),
            // No inode number: the kernel remembers that there is no such entry.
            Err(Error::NoEntry) => match self.node(INodeNo::ROOT) {
                Ok(root) => {
                    let absent = FileAttr {
                        ino: INodeNo(0),
                        ..self.attributes(&root)
                    };
                    reply.entry(&KERNEL_CACHE, &absent, Generation(0));
                }
                Err(error) => reply.error(errno(&error)),
            },
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.node(ino) {
            Ok(node) => reply.attr(&KERNEL_CACHE, &self.attributes(&node)),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match self.node(ino) {
            Ok(node) => match &node.entry.symlink {
                Some(target) if node.entry.is_symlink() => reply.data(target.as_bytes()),
                _ => reply.error(Errno::EINVAL),
            },
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.opens.fetch_add(1, Relaxed);
        match self.open_file(ino) {
            Ok(file) => reply.opened(self.files.add(file), FopenFlags::FOPEN_KEEP_CACHE),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let Some(open) = self.files.get(handle) else {
            return reply.error(Errno::EBADF);
        };
        match self.read_file(&open, offset, size) {
            Ok(data) => reply.data(&data),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.files.remove(handle);
        reply.ok();
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.children(ino) {
            Ok(children) => reply.opened(self.listings.add(children), FopenFlags::empty()),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let (Some(children), Ok(node)) = (self.listings.get(handle), self.node(ino)) else {
            return reply.error(Errno::EBADF);
        };
        let dots = [
            (node.ino, FileType::Directory, "."),
            (node.parent, FileType::Directory, ".."),
        ];
        let entries = children
            .iter()
            .map(|c| (c.ino, kind(&c.entry), c.entry.name.as_str()));
        let all = dots.into_iter().chain(entries).zip(1..);
        for ((ino, kind, name), next) in all.skip(offset as usize) {
            if reply.add(INodeNo(ino), next, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.listings.remove(handle);
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let free = CACHE_BLOCKS.saturating_sub(self.tree.objects.received() >> 12);
        let files = self
            .nodes
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .by_ino
            .len() as u64;
        reply.statfs(CACHE_BLOCKS, free, free, files, 0, 4096, NAME_LENGTH, 4096);
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, room: u32, reply: ReplyXattr) {
        match self.node(ino) {
            Ok(node) => {
                let value = name.to_str().and_then(|name| self.magic(name, &node));
                Answer::new(value.as_deref().map(str::as_bytes), room).send(reply);
            }
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn listxattr(&self, _: &Request, _: INodeNo, room: u32, reply: ReplyXattr) {
        Answer::new(Some(b""), room).send(reply);
    }
}

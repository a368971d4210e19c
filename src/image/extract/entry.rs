//! One entry of a layer's tar: its path, and what it says of itself.

use std::io::{self, Read};

use rustix::fs::{Gid, Timespec, Timestamps, UTIME_OMIT, Uid};
use tar::Entry;

use super::super::scan::Meta;
use crate::error::{Context, Error, Result};

/// The owner.
pub fn uid(meta: &Meta) -> Option<Uid> {
    Some(Uid::from_raw(meta.owner.0))
}

/// The group.
pub fn gid(meta: &Meta) -> Option<Gid> {
    Some(Gid::from_raw(meta.owner.1))
}

/// The time of the last change; the kernel keeps the other.
pub fn times(meta: &Meta) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: meta.mtime,
            tv_nsec: 0,
        },
    }
}

/// Mode, owner and time of an entry.
pub fn meta<R: Read>(entry: &mut Entry<'_, R>) -> Result<Meta> {
    let mut mtime = None;
    if let Some(extensions) = entry
        .pax_extensions()
        .doing(|| "read the extended header")?
    {
        for extension in extensions.filter_map(std::result::Result::ok) {
            if extension.key_bytes() == b"mtime" {
                // Whole seconds, as CernVM-FS keeps them.
                let seconds = extension.value().ok().and_then(|v| v.split('.').next());
                mtime = seconds.and_then(|seconds| seconds.parse().ok());
            }
        }
    }
    let header = entry.header();
    let doing = || "read the header";
    let id = |id: io::Result<u64>| -> Result<u32> { u32::try_from(id.doing(doing)?).doing(doing) };
    let mtime = match mtime {
        Some(mtime) => mtime,
        None => i64::try_from(header.mtime().doing(doing)?).unwrap_or(0),
    };
    Ok(Meta {
        mode: header.mode().doing(doing)? & 0o7777,
        mtime,
        owner: (id(header.uid())?, id(header.gid())?),
    })
}

/// A tar whose last block is filled: some writers (umoci) leave that out. What is cut off earlier
/// than in the padding is found by the digests.
pub struct Padded<R> {
    pub tar: R,
    pub length: u64,
}

impl<R: Read> Read for Padded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        const BLOCK: u64 = 512;
        let mut read = self.tar.read(buffer)?;
        let missing = self.length.next_multiple_of(BLOCK) - self.length;
        if read == 0 && missing > 0 {
            read = buffer.len().min(usize::try_from(missing).unwrap_or(0));
            buffer[..read].fill(0);
        }
        self.length += read as u64;
        Ok(read)
    }
}

/// A path of a tar as a path below the root; one that begins there (umoci writes `/`) means the
/// layer's root, as for every engine. What would lead out is refused, not mended.
pub fn clean(path: &[u8]) -> Result<Vec<u8>> {
    let parts: Vec<&[u8]> = path
        .split(|&b| b == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .collect();
    match parts.contains(&&b".."[..]) {
        true => Err(Error::new("its path leads upwards")),
        false => Ok(parts.join(&b'/')),
    }
}

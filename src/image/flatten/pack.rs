//! The compression of layers: the same bytes whatever the machine, and by all its processors.

use std::io::{self, Write};
use std::thread;

use flate2::{Compression, GzBuilder};

use crate::error::Error;
use crate::image::parallel;

/// How much is compressed at a time: each block becomes a gzip stream of its own, and those one
/// after the other are one file to every reader (RFC 1952, 2.2).
const BLOCK: usize = 1 << 20;

/// The operating system in the head of a gzip stream: unknown.
const GZIP_OS: u8 = 255;

/// The fastest that is still worth it.
const ZSTD: i32 = 1;

/// The media type of what is written.
pub fn media_type(fast: bool) -> &'static str {
    match fast {
        true => "application/vnd.oci.image.layer.v1.tar+zstd",
        false => "application/vnd.oci.image.layer.v1.tar+gzip",
    }
}

/// A compressing writer.
pub enum Packer<W: Write> {
    /// What every site can read.
    Gzip(Blocks<W>),
    /// What is unpacked again at once.
    Zstd(zstd::Encoder<'static, W>),
}

impl<W: Write> Packer<W> {
    /// Compresses what is written, to `out`.
    pub fn new(out: W, fast: bool) -> io::Result<Self> {
        Ok(match fast {
            true => Self::Zstd(zstd::Encoder::new(out, ZSTD)?),
            false => Self::Gzip(Blocks {
                out,
                buffer: Vec::new(),
                // Whatever it is, the blocks are the same.
                batch: BLOCK * thread::available_parallelism().map_or(1, usize::from),
                blocks: 0,
            }),
        })
    }

    /// Writes what is left, and gives what was written to.
    pub fn finish(self) -> io::Result<W> {
        match self {
            Self::Zstd(zstd) => zstd.finish(),
            Self::Gzip(mut blocks) => {
                blocks.compress()?;
                Ok(blocks.out)
            }
        }
    }
}

impl<W: Write> Write for Packer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Zstd(zstd) => zstd.write(bytes),
            Self::Gzip(blocks) => {
                blocks.buffer.extend_from_slice(bytes);
                if blocks.buffer.len() >= blocks.batch {
                    blocks.compress()?;
                }
                Ok(bytes.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Blocks that are compressed several at once.
pub struct Blocks<W: Write> {
    out: W,
    buffer: Vec<u8>,
    batch: usize,
    blocks: usize,
}

impl<W: Write> Blocks<W> {
    fn compress(&mut self) -> io::Result<()> {
        // All but what does not fill a block, unless this is the end.
        let whole = match self.buffer.len() >= self.batch {
            true => self.buffer.len() / BLOCK * BLOCK,
            false => self.buffer.len(),
        };
        let mut blocks: Vec<&[u8]> = self.buffer[..whole].chunks(BLOCK).collect();
        if blocks.is_empty() && self.blocks == 0 {
            // Nothing at all is a stream as well.
            blocks.push(&[]);
        }
        let streams = parallel::each(blocks.len(), |n| {
            let gzip = GzBuilder::new().operating_system(GZIP_OS);
            let mut gzip = gzip.write(Vec::new(), Compression::default());
            let done = gzip.write_all(blocks[n]).and_then(|()| gzip.finish());
            done.map_err(|err| Error::caused("cannot compress", err))
        });
        self.blocks += blocks.len();
        for stream in streams.map_err(io::Error::other)? {
            self.out.write_all(&stream)?;
        }
        self.buffer.drain(..whole);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn what_is_packed_in_blocks_is_one_stream_and_the_same_however_it_is_written() {
        let text: Vec<u8> = (0..5 * BLOCK / 2).map(|n| ((n * n) >> 7) as u8).collect();
        for text in [&text[..], &[], &text[..BLOCK]] {
            let pack = |batch: usize, piece: usize| {
                let mut packer = Packer::new(Vec::new(), false).unwrap();
                if let Packer::Gzip(blocks) = &mut packer {
                    blocks.batch = batch * BLOCK;
                }
                for piece in text.chunks(piece) {
                    packer.write_all(piece).unwrap();
                }
                packer.finish().unwrap()
            };
            let packed = pack(1, 1 << 20);
            assert!(packed == pack(2, 12345) && packed == pack(8, 7777));
            let mut again = Vec::new();
            let mut gzip = flate2::read::MultiGzDecoder::new(&packed[..]);
            gzip.read_to_end(&mut again).unwrap();
            assert!(again == text);
        }
    }
}

//! The server: files over HTTP/1.1 on loopback, one thread a connection.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, BufRead, BufReader, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use signal_hook::{consts::SIGINT, consts::SIGTERM, iterator::Signals};

use crate::{Failure, args, write_whole};

/// Serves until SIGTERM.
pub fn run(args: &args::Serve) -> Result<(), Failure> {
    let server = Arc::new(Server {
        directory: args.directory.canonicalize()?,
        delay: Duration::from_millis(args.delay_ms),
        counts: Mutex::default(),
        stats_file: args.stats_file.clone(),
    });
    server.count(None)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, args.port))?;
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    thread::spawn(move || {
        signals.forever().next();
        process::exit(0);
    });
    if let Some(file) = &args.port_file {
        write_whole(file, &format!("{}\n", listener.local_addr()?.port()))?;
    }
    for stream in listener.incoming() {
        let (stream, server) = (stream?, Arc::clone(&server));
        // A peer that hangs up is no concern of the server's.
        thread::spawn(move || server.converse(&stream).ok());
    }
    Ok(())
}

struct Server {
    directory: PathBuf,
    delay: Duration,
    counts: Mutex<Counts>,
    stats_file: Option<PathBuf>,
}

#[derive(Default)]
struct Counts {
    requests: u64,
    bytes: u64,
    files: HashSet<PathBuf>,
}

impl Server {
    /// Answers the requests of one connection until the peer closes it.
    fn converse(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut lines = BufReader::new(stream).lines();
        while let Some(request) = lines.next().transpose()? {
            // Header fields do not matter: nothing asks for ranges, and no request has a body.
            for field in lines.by_ref() {
                if field?.is_empty() {
                    break;
                }
            }
            thread::sleep(self.delay);
            self.answer(&request, stream)?;
        }
        Ok(())
    }

    fn answer(&self, request: &str, mut stream: &TcpStream) -> io::Result<()> {
        let mut words = request.split(' ');
        let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let found = file_path(target).and_then(|path| {
            let file = File::open(self.directory.join(&path)).ok()?;
            let metadata = file.metadata().ok()?;
            metadata.is_file().then_some((path, file, metadata.len()))
        });
        let (status, body) = match (method, found) {
            ("GET" | "HEAD", Some(found)) => ("200 OK", Some(found)),
            ("GET" | "HEAD", None) => ("404 Not Found", None),
            _ => ("405 Method Not Allowed", None),
        };
        let length = body.as_ref().map_or(0, |(_, _, length)| *length);
        let sent = if method == "GET" { length } else { 0 };
        // Counted before it is sent: who has read an answer finds it counted.
        self.count(Some((
            sent,
            body.as_ref().map(|(path, _, _)| path.as_path()),
        )))?;
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes())?;
        if let Some((_, mut file, _)) = body
            && method == "GET"
        {
            io::copy(&mut file, &mut stream)?;
        }
        Ok(())
    }

    /// Counts an answer, if there is one, and writes the figures down.
    fn count(&self, answer: Option<(u64, Option<&Path>)>) -> io::Result<()> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((bytes, file)) = answer {
            counts.requests += 1;
            counts.bytes += bytes;
            if let Some(file) = file
                && !counts.files.contains(file)
            {
                counts.files.insert(file.to_owned());
            }
        }
        let Some(stats_file) = &self.stats_file else {
            return Ok(());
        };
        let (requests, bytes, files) = (counts.requests, counts.bytes, counts.files.len());
        write_whole(
            stats_file,
            &format!("{{\"requests\":{requests},\"bytes\":{bytes},\"files\":{files}}}\n"),
        )
    }
}

/// The relative path that a request's target names, if it names one below the directory.
fn file_path(target: &str) -> Option<PathBuf> {
    let target = target.split('?').next()?.strip_prefix('/')?;
    let decoded = percent_decoded(target)?;
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    decoded
        .split('/')
        .all(plain)
        .then(|| PathBuf::from(decoded))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_name_files_below_the_directory_only() {
        let path = |target| file_path(target).map(|path| path.display().to_string());
        assert_eq!(
            path("/cvmfs/a.b/data/00/1C").as_deref(),
            Some("cvmfs/a.b/data/00/1C")
        );
        assert_eq!(path("/a%20b?x=1").as_deref(), Some("a b"));
        for refused in [
            "",
            "a",
            "/",
            "/../a",
            "/a/%2e%2e/b",
            "/a//b",
            "/a%2",
            "/a%zz",
            "/%ff",
        ] {
            assert_eq!(path(refused), None, "{refused}");
        }
    }
}

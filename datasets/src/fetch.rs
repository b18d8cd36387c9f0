//! Downloads that are checked before they count.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use crate::error::{Attempt, DatasetError, DownloadProblem};
use crate::manifest::{FileStatus, Manifest, ManifestFile, hexadecimal};

/// Longest silence of a server before the next mirror is tried.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether a download shows how far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A bar on stderr, if that is a terminal.
    Bar,
    /// Nothing.
    Hidden,
}

/// One file of a data set after a fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FetchedFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// How it got there.
    pub origin: Origin,
}

/// How a file came to be where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was there, and good.
    AlreadyThere,
    /// It was downloaded.
    Downloaded {
        /// The address that delivered it.
        url: String,
    },
}

pub(crate) fn fetch_manifest(
    manifest: &Manifest,
    dir: &Path,
    progress: Progress,
) -> Result<Vec<FetchedFile>, DatasetError> {
    let home = manifest.home(dir);
    let cannot = |action, source| DatasetError::Io {
        action,
        path: home.clone(),
        source,
    };
    fs::create_dir_all(&home).map_err(|source| cannot("create", source))?;
    let agent = agent();
    let fetch_one = |file: &ManifestFile| {
        let check = file.check(&home)?;
        let origin = match check.status {
            FileStatus::Good => Origin::AlreadyThere,
            _ => Origin::Downloaded {
                url: download(&agent, &manifest.mirrors, file, &home, progress)?,
            },
        };
        Ok(FetchedFile {
            path: check.path,
            size: file.size,
            origin,
        })
    };
    manifest.files.iter().map(fetch_one).collect()
}

fn agent() -> ureq::Agent {
    let builder = ureq::Agent::config_builder()
        .timeout_connect(Some(PATIENCE))
        .timeout_recv_response(Some(PATIENCE))
        .timeout_per_read(Some(PATIENCE))
        // The checksum is of the file as stored, so no server may compress it once more on the way.
        .accept_encoding("identity");
    // The servers of the tests are on this machine, where a proxy named in the environment cannot reach.
    #[cfg(test)]
    let builder = builder.proxy(None);
    builder.build().new_agent()
}

/// Places `file` in `home`, from the first mirror that delivers it as published; returns the address.
fn download(
    agent: &ureq::Agent,
    mirrors: &[String],
    file: &ManifestFile,
    home: &Path,
    progress: Progress,
) -> Result<String, DatasetError> {
    let mut attempts = Vec::new();
    for mirror in mirrors {
        let url = format!("{mirror}{}", file.name);
        let path = home.join(&file.name);
        let cannot_write = |source| DatasetError::Io {
            action: "write",
            path: path.clone(),
            source,
        };
        let mut partial = temporary(home).map_err(cannot_write)?;
        match receive(agent, &url, file, &mut partial, progress) {
            Ok(()) => {
                partial.as_file().sync_all().map_err(cannot_write)?;
                partial
                    .persist(&path)
                    .map_err(|error| cannot_write(error.error))?;
                return Ok(url);
            }
            Err(Interruption::Disk(source)) => return Err(cannot_write(source)),
            Err(Interruption::Mirror(problem)) => attempts.push(Attempt { url, problem }),
        }
    }
    Err(DatasetError::Download {
        file: file.name.clone(),
        dir: home.into(),
        attempts,
    })
}

/// A file in the folder where the download will stay, so that the final rename cannot cross file systems.
fn temporary(home: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".partial-");
    #[cfg(unix)]
    {
        // Temporary files are private by default; data sets are for everyone, as far as the umask allows.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(home)
}

/// Why a download stopped: another mirror may help in one case, not in the other.
enum Interruption {
    Mirror(DownloadProblem),
    Disk(io::Error),
}

impl From<DownloadProblem> for Interruption {
    fn from(problem: DownloadProblem) -> Self {
        Self::Mirror(problem)
    }
}

fn receive(
    agent: &ureq::Agent,
    url: &str,
    file: &ManifestFile,
    out: &mut impl Write,
    progress: Progress,
) -> Result<(), Interruption> {
    let mut response = agent.get(url).call().map_err(|error| match error {
        ureq::Error::StatusCode(code) => DownloadProblem::Status { code },
        other => DownloadProblem::Connection {
            source: other.into_io(),
        },
    })?;
    // One byte past the published size is enough to know that the answer is something else.
    let mut body = response.body_mut().as_reader().take(file.size + 1);
    let bar = bar(file, progress);
    let (mut hasher, mut seen, mut chunk) = (Sha256::new(), 0, vec![0; 1 << 16]);
    loop {
        let len = match body.read(&mut chunk) {
            Ok(0) => break,
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(DownloadProblem::Connection { source }.into()),
        };
        hasher.update(&chunk[..len]);
        out.write_all(&chunk[..len]).map_err(Interruption::Disk)?;
        seen += len as u64;
        bar.set_position(seen);
    }
    if seen != file.size {
        return Err(DownloadProblem::Size {
            seen,
            expected: file.size,
        }
        .into());
    }
    let seen = hexadecimal(&hasher.finalize());
    if seen != file.sha256 {
        return Err(DownloadProblem::Checksum {
            seen,
            expected: file.sha256.clone(),
        }
        .into());
    }
    Ok(())
}

fn bar(file: &ManifestFile, progress: Progress) -> ProgressBar {
    let target = match progress {
        Progress::Bar => ProgressDrawTarget::stderr(),
        Progress::Hidden => ProgressDrawTarget::hidden(),
    };
    let style = ProgressStyle::with_template(
        "{msg}  {bar:30}  {bytes} of {total_bytes}  {bytes_per_sec}  {eta}",
    )
    .expect("the template is constant and valid");
    ProgressBar::with_draw_target(Some(file.size), target)
        .with_style(style)
        .with_message(file.name.clone())
        .with_finish(ProgressFinish::AndClear) // also when a download is given up
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::io::{BufRead, BufReader};
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    /// A server on this machine that answers each known path with the bytes given, whatever they are.
    ///
    /// Returns the address of its root. Its thread ends with the test process.
    fn serve(answers: &[(&'static str, &'static str)]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answers: HashMap<_, _> = answers.iter().copied().collect();
        thread::spawn(move || {
            for stream in listener.incoming() {
                answer(stream.unwrap(), &answers);
            }
        });
        format!("http://{address}/")
    }

    fn answer(mut stream: TcpStream, answers: &HashMap<&str, &str>) {
        let mut lines = BufReader::new(stream.try_clone().unwrap())
            .lines()
            .map_while(Result::ok);
        let request = lines.next().unwrap_or_default();
        // To the blank line: closing with unread bytes would reset the connection.
        lines.take_while(|line| !line.is_empty()).for_each(drop);
        let path = request.split(' ').nth(1).unwrap_or_default();
        let missing = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        let _ = stream.write_all(answers.get(path).unwrap_or(&missing).as_bytes());
    }

    const GOOD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc";
    const ALTERED: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabd";
    const SHORT: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nab";
    const TOO_LONG: &str =
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nabcabcabc";
    const WHOLE_BUT_SMALL: &str =
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nab";

    fn manifest(mirrors: &[String]) -> Manifest {
        let text = format!(
            "name = 'sample'\ntitle = ''\nsource = ''\nlicense = ''\nmirrors = {mirrors:?}\n\
             [[files]]\nname = 'abc'\nsize = 3\nsha256 = '{ABC}'\n"
        );
        Manifest::from_toml(&text).unwrap()
    }

    fn fetch(mirrors: &[String], dir: &Path) -> Result<Origin, DatasetError> {
        let fetched = fetch_manifest(&manifest(mirrors), dir, Progress::Hidden)?;
        assert_eq!(fs::read(&fetched[0].path).unwrap(), b"abc");
        assert_eq!((fetched.len(), fetched[0].size), (1, 3));
        Ok(fetched[0].origin.clone())
    }

    /// Fetches from one mirror with a bad answer; nothing may be left in the folder.
    fn problem(answer: &'static str) -> DownloadProblem {
        let dir = tempfile::tempdir().unwrap();
        let error = fetch(&[serve(&[("/abc", answer)])], dir.path()).unwrap_err();
        assert_eq!(fs::read_dir(dir.path().join("sample")).unwrap().count(), 0);
        match error {
            DatasetError::Download { mut attempts, .. } => attempts.remove(0).problem,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_good_file_arrives_once_and_is_then_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let mirrors = [serve(&[("/abc", GOOD)])];
        let url = format!("{}abc", mirrors[0]);
        assert_eq!(
            fetch(&mirrors, dir.path()).unwrap(),
            Origin::Downloaded { url }
        );
        assert_eq!(fetch(&mirrors, dir.path()).unwrap(), Origin::AlreadyThere);
        assert_eq!(fs::read_dir(dir.path().join("sample")).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_file_is_replaced_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("abc"), "abd").unwrap();
        assert!(matches!(
            fetch(&[serve(&[("/abc", GOOD)])], dir.path()).unwrap(),
            Origin::Downloaded { .. }
        ));
        assert_eq!(fs::read(dir.path().join("abc")).unwrap(), b"abc");
    }

    #[test]
    fn the_next_mirror_is_tried_after_a_bad_one() {
        for bad in [
            None,
            Some(ALTERED),
            Some(SHORT),
            Some(TOO_LONG),
            Some(WHOLE_BUT_SMALL),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let answers: Vec<_> = bad.map(|bad| ("/abc", bad)).into_iter().collect();
            let mirrors = [serve(&answers), serve(&[("/abc", GOOD)])];
            let url = format!("{}abc", mirrors[1]);
            assert_eq!(
                fetch(&mirrors, dir.path()).unwrap(),
                Origin::Downloaded { url },
                "{bad:?}"
            );
        }
    }

    #[test]
    fn each_bad_answer_is_reported_as_what_it_is() {
        assert!(
            matches!(problem(ALTERED), DownloadProblem::Checksum { expected, .. } if expected == ABC)
        );
        assert!(matches!(
            problem(TOO_LONG),
            DownloadProblem::Size {
                seen: 4,
                expected: 3
            }
        ));
        assert!(matches!(
            problem(WHOLE_BUT_SMALL),
            DownloadProblem::Size {
                seen: 2,
                expected: 3
            }
        ));
        assert!(matches!(problem(SHORT), DownloadProblem::Connection { .. }));
        assert!(matches!(
            problem("not a web server"),
            DownloadProblem::Connection { .. }
        ));
    }

    #[test]
    fn when_every_mirror_fails_the_message_lists_them_and_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        // A port that was just free: nothing listens there any more.
        let closed = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let mirrors = [serve(&[]), format!("http://{closed}/")];
        let error = fetch(&mirrors, dir.path()).unwrap_err().to_string();
        assert!(
            error.contains(&format!("{}abc: HTTP status 404", mirrors[0])),
            "{error}"
        );
        assert!(
            error.contains(&mirrors[1]) && error.contains("sample yourself"),
            "{error}"
        );
        assert!(error.contains("--data-dir"), "{error}");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let occupied = dir.path().join("occupied");
        fs::write(&occupied, "").unwrap();
        let error = fetch(&[], &occupied).unwrap_err();
        assert!(
            matches!(
                error,
                DatasetError::Io {
                    action: "create",
                    ..
                }
            ),
            "{error}"
        );
    }
}

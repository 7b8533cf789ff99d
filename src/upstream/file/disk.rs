//! The file on disk: whole messages are gathered and written together; a file that is full is put
//! aside under the collector's name for it, and old ones are removed. Blocking: only the writer's
//! thread is here.
//!
//! What could not be written is cut off again, so that the file stays readable.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ::time::OffsetDateTime;

use super::{Options, Rotation};

/// Messages are written when so many bytes have come together.
const BUFFER_BYTES: usize = 64 << 10;
const FILE_MODE: u32 = 0o644;
/// Length of `2006-01-02T15-04-05.000`.
const STAMP_CHARS: usize = 23;
const SECONDS_PER_DAY: u64 = 86_400;

/// The open file.
#[derive(Debug)]
pub(super) struct Disk {
    path: PathBuf,
    rotation: Option<Rotation>,
    file: File,
    /// Bytes of whole messages in the file.
    length: u64,
    buffer: Vec<u8>,
}

impl Disk {
    /// Opens the file, and makes its directory if that is wanted.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn open(options: &Options) -> io::Result<Self> {
        let path = PathBuf::from(&options.path);
        if let (Some(mode), Some(directory)) = (options.directory_mode, path.parent()) {
            DirBuilder::new().recursive(true).mode(mode).create(directory)?;
        }
        let append = options.append || options.rotation.is_some();
        let (file, length) = open(&path, append)?;
        Ok(Self { path, rotation: options.rotation, file, length, buffer: Vec::new() })
    }

    /// Whether [`Self::push`] would fill the buffer or the file: it is written out first.
    pub(super) fn is_due(&self, bytes: usize) -> bool {
        let full = self.length + (self.buffer.len() + bytes) as u64;
        let rotates = self.rotation.is_some_and(|r| full > r.bytes_max);
        !self.buffer.is_empty() && (rotates || self.buffer.len() + bytes > BUFFER_BYTES)
    }

    /// Takes a message. If the file has no room for it, a new one is begun; one that is larger than
    /// a file may be gets a file of its own.
    ///
    /// # Errors
    /// The old file could not be put aside; the message goes into it.
    pub(super) fn push(&mut self, message: &[u8], now: SystemTime) -> io::Result<()> {
        let full = self.length + (self.buffer.len() + message.len()) as u64;
        let rotated = match self.rotation {
            Some(rotation) if self.length > 0 && full > rotation.bytes_max => {
                self.rotate(rotation, now)
            }
            _ => Ok(()),
        };
        self.buffer.extend_from_slice(message);
        rotated
    }

    /// Writes what was gathered.
    ///
    /// # Errors
    /// Those of the file system. The file holds nothing of it then.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let written = self.file.write_all(&self.buffer);
        match &written {
            Ok(()) => self.length += self.buffer.len() as u64,
            Err(_) => self.cut_off_what_got_through(),
        }
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_BYTES);
        written
    }

    /// Only if nobody else has written, or cut, the file meanwhile; a device cannot be cut at all.
    fn cut_off_what_got_through(&self) {
        let most = self.length + self.buffer.len() as u64;
        if let Ok(metadata) = self.file.metadata()
            && metadata.is_file()
            && (self.length + 1..=most).contains(&metadata.len())
        {
            // The disk fails already; whoever reads the file will see a torn message.
            let _ = self.file.set_len(self.length);
        }
    }

    fn rotate(&mut self, rotation: Rotation, now: SystemTime) -> io::Result<()> {
        fs::rename(&self.path, beside(&self.path, &format!("{}-size", stamp(now))))?;
        (self.file, self.length) = open(&self.path, true)?;
        remove_old(&self.path, rotation, now)
    }
}

/// For appending also where it is truncated: after a failure writing goes on at the end.
fn open(path: &Path, append: bool) -> io::Result<(File, u64)> {
    let mut options = OpenOptions::new();
    let file = options.create(true).append(true).mode(FILE_MODE).open(path)?;
    let metadata = file.metadata()?;
    if append || !metadata.is_file() {
        return Ok((file, metadata.len()));
    }
    file.set_len(0)?;
    Ok((file, 0))
}

/// `dir/name-MIDDLE.ext`.
fn beside(path: &Path, middle: &str) -> PathBuf {
    let (prefix, extension) = parts(path);
    path.with_file_name(format!("{prefix}{middle}{extension}"))
}

/// `name-` and `.ext`.
fn parts(path: &Path) -> (String, String) {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (stem, extension) = name.rfind('.').map_or((&*name, ""), |dot| name.split_at(dot));
    (format!("{stem}-"), extension.to_owned())
}

/// `2006-01-02T15-04-05.000`, in UTC.
fn stamp(now: SystemTime) -> String {
    let t = OffsetDateTime::from(now);
    format!(
        "{:04}-{:02}-{:02}T{:02}-{:02}-{:02}.{:03}",
        t.year(),
        u8::from(t.month()),
        t.day(),
        t.hour(),
        t.minute(),
        t.second(),
        t.millisecond()
    )
}

/// Removes files that were put aside: too many, or too old.
fn remove_old(path: &Path, rotation: Rotation, now: SystemTime) -> io::Result<()> {
    let (prefix, extension) = parts(path);
    let directory = match path.parent() {
        Some(directory) if directory != Path::new("") => directory,
        _ => Path::new("."),
    };
    let mut backups = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let middle = name.strip_prefix(&prefix).and_then(|n| n.strip_suffix(&extension));
        if middle.is_some_and(is_stamped) {
            backups.push(name);
        }
    }
    // Their names sort by time.
    backups.sort_unstable_by(|a, b| b.cmp(a));
    let age = std::time::Duration::from_secs(rotation.days_max.saturating_mul(SECONDS_PER_DAY));
    let oldest = match rotation.days_max {
        0 => None,
        _ => now.checked_sub(age).map(|oldest| format!("{prefix}{}", stamp(oldest))),
    };
    for (i, name) in backups.iter().enumerate() {
        let too_many = rotation.backups_max > 0 && i >= rotation.backups_max;
        if too_many || oldest.as_ref().is_some_and(|oldest| name < oldest) {
            fs::remove_file(directory.join(name))?;
        }
    }
    Ok(())
}

fn is_stamped(middle: &str) -> bool {
    let shape = "0000-00-00T00-00-00.000";
    let digits = |b: u8| if b.is_ascii_digit() { b'0' } else { b };
    let (stamp, reason) = middle.as_bytes().split_at(middle.len().min(STAMP_CHARS));
    stamp.iter().map(|b| digits(*b)).eq(shape.bytes())
        && (reason.is_empty() || reason.starts_with(b"-"))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::super::Format;
    use super::*;

    fn options(path: &Path) -> Options {
        Options {
            path: path.to_str().unwrap().into(),
            format: Format::Json,
            append: false,
            rotation: None,
            zstd_level: None,
            flush_interval: Duration::from_secs(1),
            directory_mode: None,
        }
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<String> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_begins_anew_unless_it_is_appended_to() {
        let dir = tempfile::tempdir().unwrap();
        let mut options = options(&dir.path().join("a.json"));
        for (append, want) in [(false, "1\n"), (true, "1\n1\n"), (false, "1\n")] {
            options.append = append;
            let mut disk = Disk::open(&options).unwrap();
            disk.push(b"1\n", UNIX_EPOCH).unwrap();
            disk.flush().unwrap();
            assert_eq!(fs::read_to_string(&options.path).unwrap(), want);
        }
    }

    #[test]
    fn a_directory_is_made_only_if_that_is_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let mut options = options(&dir.path().join("x/y/a.json"));
        assert!(Disk::open(&options).is_err());
        options.directory_mode = Some(0o755);
        assert!(Disk::open(&options).is_ok());
    }

    #[test]
    fn full_files_are_put_aside_and_the_oldest_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        fs::write(dir.path().join("a-other.json"), "").unwrap();
        fs::write(dir.path().join("a-2024-01-01T00-00-00.000.json"), "").unwrap();
        let rotation = Rotation { bytes_max: 10, days_max: 0, backups_max: 2 };
        let options = Options { rotation: Some(rotation), ..options(&path) };
        let mut disk = Disk::open(&options).unwrap();
        for (i, size) in [4, 4, 4, 20, 4].into_iter().enumerate() {
            let now = UNIX_EPOCH + Duration::from_millis(1_790_000_000_000 + i as u64);
            if disk.is_due(size) {
                disk.flush().unwrap();
            }
            disk.push(&vec![b'x'; size], now).unwrap();
        }
        disk.flush().unwrap();
        let want = [
            "a-2026-09-21T14-13-20.003-size.json",
            "a-2026-09-21T14-13-20.004-size.json",
            "a-other.json",
            "a.json",
        ];
        assert_eq!(names(dir.path()), want);
        let sizes =
            [&want[0], &want[1], &want[3]].map(|n| fs::read(dir.path().join(n)).unwrap().len());
        assert_eq!(sizes, [4, 20, 4]);
    }

    #[test]
    fn backups_older_than_their_days_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        for name in ["a-2026-09-19T14-13-19.999-size", "a-2026-09-19T14-13-20.001-size"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let rotation = Rotation { bytes_max: 1, days_max: 2, backups_max: 0 };
        let now = UNIX_EPOCH + Duration::from_secs(1_790_000_000);
        remove_old(&path, rotation, now).unwrap();
        assert_eq!(names(dir.path()), ["a-2026-09-19T14-13-20.001-size"]);
    }
}

//! Finds the files that are knowledge below a root, and reads one.
//!
//! A root is a folder, or one file of a folder. Its name is the folder's, and a document's source is
//! `name/path/below.md`: so two folders don't collide, a file is the same document whether it comes
//! by itself or with its folder, and a checkout may lie anywhere. Two folders of one name are one
//! root; giving both at once is refused.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use walkdir::{DirEntry, WalkDir};

use super::{SkipReason, Skipped};
use crate::knowledge::document::Format;

/// The largest file that is read, in bytes. A book has about one MB of text.
pub const MAX_FILE_BYTES: u64 = 5 * 1024 * 1024;

/// A file that is knowledge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Where it is.
    pub(super) path: PathBuf,
    /// Its path below the root, with `/`.
    pub(super) below: String,
    /// How it is written.
    pub(super) format: Format,
}

/// What was given to be indexed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Root {
    /// The folder's name and a `/`: the beginning of every source.
    pub(super) prefix: String,
    folder: PathBuf,
    /// The one file that is meant, if not the whole folder.
    file: Option<PathBuf>,
}

impl Root {
    /// Looks at a path that somebody gave.
    pub(super) fn open(given: &Path) -> Result<Self, SkipReason> {
        let path = fs::canonicalize(given).map_err(|_| SkipReason::NotFound)?;
        let (folder, file) = if path.is_file() {
            let folder = path.parent().ok_or(SkipReason::NoName)?.to_owned();
            (folder, Some(path))
        } else {
            (path, None)
        };
        let name = folder.file_name().ok_or(SkipReason::NoName)?;
        let name = name.to_str().ok_or(SkipReason::NameNotUtf8)?;
        Ok(Self {
            prefix: format!("{name}/"),
            folder,
            file,
        })
    }

    /// Whether everything below the folder is meant, so that what is not found is gone.
    pub(super) fn is_folder(&self) -> bool {
        self.file.is_none()
    }

    /// Whether both have the same name and are not the same folder.
    pub(super) fn collides(&self, other: &Self) -> bool {
        self.prefix == other.prefix && self.folder != other.folder
    }
}

/// The documents below a root, sorted by path, and what was left out. Symbolic links are not followed,
/// so that no walk is endless: what they lead to inside the root is found by its own path.
pub(super) fn walk(root: &Root) -> (Vec<Found>, Vec<Skipped>) {
    let mut found = Vec::new();
    let mut skipped = Vec::new();
    if let Some(file) = &root.file {
        match describe(root, file) {
            Ok(Some(file)) => found.push(file),
            Ok(None) => skipped.push(skip(file, SkipReason::UnknownFormat)),
            Err(reason) => skipped.push(skip(file, reason)),
        }
        return (found, skipped);
    }
    let mut entries = WalkDir::new(&root.folder).sort_by_file_name().into_iter();
    while let Some(entry) = entries.next() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                let path = error.path().unwrap_or(&root.folder);
                skipped.push(skip(path, SkipReason::Unreadable));
                continue;
            }
        };
        let kind = entry.file_type();
        if entry.depth() > 0 && is_hidden(&entry) {
            skipped.push(skip(entry.path(), SkipReason::Hidden));
            if kind.is_dir() {
                entries.skip_current_dir();
            }
            continue;
        }
        if kind.is_dir() {
            continue;
        }
        if kind.is_symlink() {
            let inside =
                fs::canonicalize(entry.path()).is_ok_and(|target| target.starts_with(&root.folder));
            if !inside {
                skipped.push(skip(entry.path(), SkipReason::LinkOutside));
            }
            continue;
        }
        match describe(root, entry.path()) {
            // A pipe or a device would never end.
            Ok(Some(file)) if kind.is_file() => found.push(file),
            Ok(_) => skipped.push(skip(entry.path(), SkipReason::OtherFormat)),
            Err(reason) => skipped.push(skip(entry.path(), reason)),
        }
    }
    if found.is_empty() && skipped.iter().all(|skipped| !skipped.reason.is_error()) {
        skipped.push(skip(&root.folder, SkipReason::NoDocuments));
    }
    (found, skipped)
}

/// The bytes of a file of at most [`MAX_FILE_BYTES`].
pub(super) fn read(path: &Path) -> Result<Vec<u8>, SkipReason> {
    let unreadable = |_: io::Error| SkipReason::Unreadable;
    let mut bytes = Vec::new();
    File::open(path)
        .map_err(unreadable)?
        .take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_FILE_BYTES {
        return Err(SkipReason::TooLarge);
    }
    Ok(bytes)
}

/// The text of a file: UTF-8, without a byte order mark, with plain line ends.
pub(super) fn read_text(path: &Path) -> Result<String, SkipReason> {
    let text = String::from_utf8(read(path)?).map_err(|_| SkipReason::NotUtf8)?;
    plain(&text)
}

/// A text with plain line ends and without a byte order mark, if there is something in it.
pub(super) fn plain(text: &str) -> Result<String, SkipReason> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.contains('\0') {
        Err(SkipReason::Nul)
    } else if text.trim().is_empty() {
        Err(SkipReason::Empty)
    } else {
        Ok(text.replace("\r\n", "\n").replace('\r', "\n"))
    }
}

/// `None` for a file of another format.
fn describe(root: &Root, path: &Path) -> Result<Option<Found>, SkipReason> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let Some(format) = Format::of(&name) else {
        return Ok(None);
    };
    let below = path
        .strip_prefix(&root.folder)
        .map_err(|_| SkipReason::Unreadable)?
        .components()
        .map(|part| part.as_os_str().to_str())
        .collect::<Option<Vec<_>>>()
        .ok_or(SkipReason::NameNotUtf8)?
        .join("/");
    Ok(Some(Found {
        path: path.to_owned(),
        below,
        format,
    }))
}

fn is_hidden(entry: &DirEntry) -> bool {
    entry.file_name().to_string_lossy().starts_with('.')
}

fn skip(path: &Path, reason: SkipReason) -> Skipped {
    Skipped {
        what: path.display().to_string(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, name: &str, content: impl AsRef<[u8]>) {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn reasons(skipped: &[Skipped]) -> Vec<(&str, SkipReason)> {
        skipped
            .iter()
            .map(|skipped| {
                let name = skipped.what.rsplit('/').next().unwrap_or_default();
                (name, skipped.reason)
            })
            .collect()
    }

    fn below(found: &[Found]) -> Vec<&str> {
        found.iter().map(|file| file.below.as_str()).collect()
    }

    #[test]
    fn documents_are_found_in_order_and_the_rest_is_listed() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("site");
        for name in [
            "b/x.txt",
            "a.md",
            "b/a.Markdown",
            "c.pdf",
            "d.html",
            "d.docx",
            ".git/d.md",
            ".git/e.md",
            "e",
            ".f.md",
        ] {
            write(&folder, name, "text");
        }
        let root = Root::open(&folder).unwrap();
        let (found, skipped) = walk(&root);
        assert_eq!(root.prefix, "site/");
        assert_eq!(
            below(&found),
            ["a.md", "b/a.Markdown", "b/x.txt", "c.pdf", "d.html"]
        );
        assert_eq!(
            reasons(&skipped),
            [
                (".f.md", SkipReason::Hidden),
                (".git", SkipReason::Hidden),
                ("d.docx", SkipReason::OtherFormat),
                ("e", SkipReason::OtherFormat),
            ]
        );
        assert!(skipped.iter().all(|skipped| !skipped.reason.is_error()));
    }

    #[test]
    fn a_file_by_itself_has_the_name_that_it_has_in_its_folder() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("site");
        write(&folder, "a.md", "text");
        write(&folder, "b.md", "text");
        write(&folder, "c.docx", "text");
        let file = Root::open(&folder.join("a.md")).unwrap();
        assert_eq!(file.prefix, "site/");
        assert!(!file.is_folder());
        assert_eq!(below(&walk(&file).0), ["a.md"]);
        let other = Root::open(&folder.join("c.docx")).unwrap();
        assert_eq!(walk(&other).1[0].reason, SkipReason::UnknownFormat);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_not_followed() {
        use std::os::unix::fs::symlink;

        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("site");
        write(&folder, "a.md", "text");
        write(place.path(), "outside/secret.md", "secret");
        symlink(
            place.path().join("outside/secret.md"),
            folder.join("out.md"),
        )
        .unwrap();
        symlink(folder.join("a.md"), folder.join("in.md")).unwrap();
        symlink(place.path().join("outside"), folder.join("folder")).unwrap();
        // A circle, and a link to nowhere.
        symlink(&folder, folder.join("circle")).unwrap();
        symlink(folder.join("nothing"), folder.join("z.md")).unwrap();
        let (found, skipped) = walk(&Root::open(&folder).unwrap());
        assert_eq!(below(&found), ["a.md"]);
        assert_eq!(
            reasons(&skipped),
            [
                ("folder", SkipReason::LinkOutside),
                ("out.md", SkipReason::LinkOutside),
                ("z.md", SkipReason::LinkOutside),
            ]
        );
    }

    #[test]
    fn a_path_that_is_not_there_or_has_nothing_is_told() {
        let place = tempfile::tempdir().unwrap();
        assert_eq!(
            Root::open(&place.path().join("x")),
            Err(SkipReason::NotFound)
        );
        assert_eq!(Root::open(Path::new("/")), Err(SkipReason::NoName));
        let empty = walk(&Root::open(place.path()).unwrap());
        assert_eq!(empty.1[0].reason, SkipReason::NoDocuments);
    }

    #[test]
    fn two_folders_of_one_name_collide() {
        let place = tempfile::tempdir().unwrap();
        write(place.path(), "x/docs/a.md", "text");
        write(place.path(), "y/docs/a.md", "text");
        let open = |name: &str| Root::open(&place.path().join(name)).unwrap();
        assert!(open("x/docs").collides(&open("y/docs")));
        assert!(!open("x/docs").collides(&open("x/docs/a.md")));
    }

    #[test]
    fn only_text_that_can_be_kept_is_read() {
        let place = tempfile::tempdir().unwrap();
        let read = |content: &[u8]| {
            write(place.path(), "a.md", content);
            read_text(&place.path().join("a.md"))
        };
        assert_eq!(read(b"\xef\xbb\xbfa\r\nb\rc"), Ok("a\nb\nc".into()));
        assert_eq!(read(b" \n"), Err(SkipReason::Empty));
        assert_eq!(read(b"a\0b"), Err(SkipReason::Nul));
        assert_eq!(read(b"\xff\xfe"), Err(SkipReason::NotUtf8));
        let largest = usize::try_from(MAX_FILE_BYTES).unwrap();
        assert!(read(&vec![b'a'; largest]).is_ok());
        assert_eq!(read(&vec![b'a'; largest + 1]), Err(SkipReason::TooLarge));
    }
}

//! What is moved: files that do not compress, and the check that they arrived.
//!
//! The check compares byte for byte with the source, which is at hand: nothing that a digest would notice
//! escapes it.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::fault::{Result, While, bail, ensure};
use crate::process::set_mode;

/// Bytes of one small file.
pub(super) const SMALL: u64 = 4096;
const PIECE: usize = 1 << 20;

/// Where bytes that do not compress come from.
fn noise() -> Result<File> {
    File::open("/dev/urandom").doing(|| "opening /dev/urandom".to_owned())
}

/// Makes a file of so many bytes.
pub(super) fn make_file(path: &Path, bytes: u64) -> Result<()> {
    let mut to = File::create(path).doing(|| format!("making {}", path.display()))?;
    let copied = std::io::copy(&mut noise()?.take(bytes), &mut to);
    ensure!(copied.doing(|| format!("writing {}", path.display()))? == bytes, "/dev/urandom ended");
    Ok(())
}

/// Makes a file of so many bytes that takes no room: it is one hole.
pub(super) fn make_sparse(path: &Path, bytes: u64) -> Result<()> {
    let file = File::create(path).doing(|| format!("making {}", path.display()))?;
    file.set_len(bytes).doing(|| format!("stretching {}", path.display()))
}

/// Makes `files` small files in `dirs` directories.
pub(super) fn make_tree(path: &Path, files: usize, dirs: usize) -> Result<()> {
    make_dir(path)?;
    for dir in 0..dirs {
        make_dir(&path.join(format!("d{dir:03}")))?;
    }
    let mut noise = noise()?;
    let mut content = vec![0; SMALL as usize];
    for file in 0..files {
        noise.read_exact(&mut content).doing(|| "reading /dev/urandom".to_owned())?;
        let path = path.join(format!("d{:03}/f{file:06}.dat", file % dirs));
        crate::process::write(&path, &content)?;
    }
    Ok(())
}

/// Into how many files the bytes of one go that are moved side by side.
pub(super) const SEVERAL: u64 = 4;

/// Makes a tree of [`SEVERAL`] files, of so many bytes in all.
pub(super) fn make_several(path: &Path, bytes: u64) -> Result<()> {
    let dir = path.join("d");
    make_dir(path)?;
    make_dir(&dir)?;
    (0..SEVERAL).try_for_each(|file| make_file(&dir.join(format!("f{file}.dat")), bytes / SEVERAL))
}

/// Makes a tree of files from 16 MiB down to 4 KiB, as many bytes of each size, of so many bytes in all.
pub(super) fn make_mixed(path: &Path, bytes: u64) -> Result<()> {
    make_dir(path)?;
    for power in (12..=24).step_by(2) {
        let (size, dir) = (1_u64 << power, path.join(format!("s{power}")));
        make_dir(&dir)?;
        for file in 0..(bytes / 7 / size).max(1) {
            make_file(&dir.join(format!("f{file:06}.dat")), size)?;
        }
    }
    Ok(())
}

/// Makes so many empty files, a thousand in a directory.
pub(super) fn make_many(path: &Path, files: usize) -> Result<()> {
    make_dir(path)?;
    for file in 0..files {
        let dir = path.join(format!("d{:04}", file / 1000));
        if file % 1000 == 0 {
            make_dir(&dir)?;
        }
        File::create(dir.join(format!("f{file:07}"))).doing(|| format!("filling {}", dir.display()))?;
    }
    Ok(())
}

/// What the system knows the files of a tree that [`make_tree`] or [`make_many`] made by: another number is
/// another file.
pub(super) fn inodes(path: &Path) -> Result<Vec<u64>> {
    let of = |name: String| fs::metadata(path.join(&name)).doing(|| format!("looking at {name}"));
    names(path)?.into_iter().map(|name| Ok(of(name)?.ino())).collect()
}

/// Makes the directories of a tree that [`make_tree`] made elsewhere, for whoever to write into.
pub(super) fn make_directories_of(tree: &Path, there: &Path) -> Result<()> {
    make_dir(there)?;
    set_mode(there, 0o777)?;
    for dir in fs::read_dir(tree).doing(|| format!("listing {}", tree.display()))? {
        let dir = there.join(dir.doing(|| format!("listing {}", tree.display()))?.file_name());
        make_dir(&dir)?;
        set_mode(&dir, 0o777)?;
    }
    Ok(())
}

/// The files of a tree that [`make_tree`] made, as paths below it.
pub(super) fn names(path: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let list = |dir: &Path| fs::read_dir(dir).doing(|| format!("listing {}", dir.display()));
    for dir in list(path)? {
        let dir = dir.doing(|| format!("listing {}", path.display()))?;
        for file in list(&dir.path())? {
            let file = file.doing(|| format!("listing {}", dir.path().display()))?;
            let parts = [dir.file_name(), file.file_name()];
            names.push(parts.map(|part| part.to_string_lossy().into_owned()).join("/"));
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Makes a directory of so many empty files; see [`NAME`].
pub(super) fn make_wide(path: &Path, entries: usize) -> Result<()> {
    make_dir(path)?;
    for entry in 0..entries {
        crate::process::write(&path.join(format!("{NAME}{entry:06}.txt")), [])?;
    }
    Ok(())
}

/// How every name in a wide directory begins.
pub(super) const NAME: &str = "entry-";

fn make_dir(path: &Path) -> Result<()> {
    fs::create_dir(path).doing(|| format!("making {}", path.display()))
}

/// Errors unless both files hold the same.
pub(super) fn same_file(one: &Path, other: &Path) -> Result<()> {
    let (mut left, mut right) = (Vec::with_capacity(PIECE), Vec::with_capacity(PIECE));
    let open = |path: &Path| File::open(path).doing(|| format!("opening {}", path.display()));
    let (mut one_file, mut other_file) = (open(one)?, open(other)?);
    let mut at = 0_usize;
    loop {
        for (file, piece) in [(&mut one_file, &mut left), (&mut other_file, &mut right)] {
            piece.clear();
            file.take(PIECE as u64).read_to_end(piece).doing(|| "comparing".to_owned())?;
        }
        ensure!(
            left == right,
            "{} and {} differ in the MiB from byte {at} on",
            one.display(),
            other.display()
        );
        if left.is_empty() {
            return Ok(());
        }
        at += left.len();
    }
}

/// Errors unless both folders hold the same names with the same content; returns the number of files.
pub(super) fn same_tree(one: &Path, other: &Path) -> Result<usize> {
    let names = |dir: &Path| -> Result<Vec<PathBuf>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir).doing(|| format!("listing {}", dir.display()))? {
            let entry = entry.doing(|| format!("listing {}", dir.display()))?;
            names.push(PathBuf::from(entry.file_name()));
        }
        names.sort();
        Ok(names)
    };
    let here = names(one)?;
    ensure!(here == names(other)?, "{} and {} hold other names", one.display(), other.display());
    let mut files = 0;
    for name in here {
        let (left, right) = (one.join(&name), other.join(&name));
        if left.is_dir() {
            files += same_tree(&left, &right)?;
        } else {
            same_file(&left, &right)?;
            files += 1;
        }
    }
    Ok(files)
}

/// Removes a file or a folder with all in it.
pub(super) fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            bail!("removing {}: {error}", path.display())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{TempDir, write};

    #[test]
    fn what_differs_is_noticed() {
        let dir = TempDir::new("same").unwrap();
        let (one, other) = (dir.join("one"), dir.join("other"));
        make_tree(&one, 6, 2).unwrap();
        make_tree(&other, 6, 2).unwrap();
        assert!(same_tree(&one, &other).is_err());
        assert_eq!(same_tree(&one, &one).unwrap(), 6);
        make_file(&dir.join("a"), 3 << 20).unwrap();
        let mut bytes = std::fs::read(dir.join("a")).unwrap();
        write(&dir.join("b"), &bytes).unwrap();
        same_file(&dir.join("a"), &dir.join("b")).unwrap();
        bytes[(2 << 20) + 5] ^= 1;
        write(&dir.join("b"), &bytes).unwrap();
        assert!(same_file(&dir.join("a"), &dir.join("b")).is_err());
        write(&dir.join("b"), &bytes[..1 << 20]).unwrap();
        assert!(same_file(&dir.join("a"), &dir.join("b")).is_err());
        make_wide(&dir.join("wide"), 3).unwrap();
        assert!(same_tree(&dir.join("wide"), &one).is_err());
        make_many(&dir.join("many"), 1_500).unwrap();
        assert_eq!(names(&dir.join("many")).unwrap().len(), 1_500);
        make_mixed(&dir.join("mixed"), 7 << 20).unwrap();
        assert_eq!(names(&dir.join("mixed")).unwrap().len(), 256 + 64 + 16 + 4 + 3);
        let before = inodes(&one).unwrap();
        assert_eq!((before.len(), &before), (6, &inodes(&one).unwrap()));
        std::fs::rename(one.join("d000/f000000.dat"), dir.join("aside")).unwrap();
        std::fs::copy(dir.join("aside"), one.join("d000/f000000.dat")).unwrap();
        assert_ne!(before, inodes(&one).unwrap());
        remove(&dir.join("wide")).unwrap();
        remove(&dir.join("wide")).unwrap();
    }
}

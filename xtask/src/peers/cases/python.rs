//! The libraries of Python people on our server: scripts that assert what they see.
//!
//! A failed assertion ends the script with a trace, which the case shows.

use super::{Case, Names, OLD, SIZE, Scene, bytes, has_mode, has_time, holds, holds_names, is_absent, make};
use super::{make_tree, same_tree};
use crate::fault::{Result, While};
use crate::peers::drive;

pub(in crate::peers) const PYTHON: &[Case] = &[
    Case { name: "paramiko::moves_files", peer: "paramiko", run: paramiko_moves_files },
    Case { name: "paramiko::changes_names", peer: "paramiko", run: paramiko_changes_names },
    Case { name: "paramiko::works_in_place", peer: "paramiko", run: paramiko_works_in_place },
    Case { name: "paramiko::sees_errors", peer: "paramiko", run: paramiko_sees_errors },
    Case { name: "asyncssh::moves_trees", peer: "asyncssh", run: asyncssh_moves_trees },
    Case { name: "asyncssh::reads_side_by_side", peer: "asyncssh", run: asyncssh_reads_side_by_side },
    Case { name: "asyncssh::uses_extensions", peer: "asyncssh", run: asyncssh_uses_extensions },
    Case { name: "asyncssh::opens_many", peer: "asyncssh", run: asyncssh_opens_many },
];

/// Runs a script with `folder` and `local`, both with a slash at the end, as arguments.
fn paramiko(scene: &Scene, script: &str) -> Result<()> {
    let script = format!("folder, local = arguments\n{script}");
    let run = drive::paramiko(scene.kit, &scene.at, &script)?;
    run.arg(&scene.folder).arg(scene.here("")).finish()?.succeeded().map(drop)
}

fn asyncssh(scene: &Scene, script: &str) -> Result<()> {
    let script = format!("folder, local = arguments\n{script}");
    let run = drive::asyncssh(scene.kit, &scene.at, &script)?;
    run.arg(&scene.folder).arg(scene.here("")).finish()?.succeeded().map(drop)
}

fn paramiko_moves_files(scene: &Scene) -> Result<()> {
    let content = make(&scene.here("file"), 1)?;
    let script = "
import io
data = open(local + 'file', 'rb').read()
# `confirm` asks for the size after the upload.
sent = sftp.putfo(io.BytesIO(data), folder + 'name', file_size=len(data), confirm=True)
assert sent.st_size == len(data), sent
sftp.get(folder + 'name', local + 'back', prefetch=True)
with sftp.open(folder + 'name', 'rb') as file:
    file.prefetch(len(data))
    assert file.read() == data
with sftp.open(folder + 'name', 'rb') as file:
    pieces = file.readv([(1000000, 300000), (5, 7), (500000, 100000)])
    assert [data[1000000:1300000], data[5:12], data[500000:600000]] == list(pieces)
with sftp.open(folder + 'other', 'wb') as file:
    file.set_pipelined(True)
    for at in range(0, len(data), 30000):
        file.write(data[at:at + 30000])
assert sftp.stat(folder + 'other').st_size == len(data)
";
    paramiko(scene, script)?;
    for path in [scene.there("name"), scene.there("other"), scene.here("back")] {
        holds(&path, &content)?;
    }
    Ok(())
}

fn paramiko_changes_names(scene: &Scene) -> Result<()> {
    make(&scene.there("file"), 2)?;
    make(&scene.there("taken"), 3)?;
    let script = format!(
        "
sftp.chdir(folder)
assert sftp.getcwd() == folder.rstrip('/'), sftp.getcwd()
assert sftp.normalize('.') == folder.rstrip('/'), sftp.normalize('.')
sftp.mkdir('a', 0o751)
try:
    sftp.rename('file', 'taken')
    raise AssertionError('a rename replaced a file')
except IOError:
    pass
sftp.posix_rename('file', 'taken')
sftp.rename('taken', 'a/moved')
sftp.chmod('a/moved', 0o604)
sftp.utime('a/moved', ({OLD}, {OLD}))
found = {{entry.filename: entry for entry in sftp.listdir_attr('a')}}
assert list(found) == ['moved'], found
entry = found['moved']
assert (entry.st_size, entry.st_mtime, stat.S_IMODE(entry.st_mode)) == ({SIZE}, {OLD}, 0o604), entry
assert stat.S_ISREG(entry.st_mode)
assert entry.longname.startswith('-rw----r--'), entry.longname
assert sorted(sftp.listdir('.')) == ['a']
sftp.symlink('a/moved', 'link')
assert sftp.readlink('link') == 'a/moved', sftp.readlink('link')
assert stat.S_ISLNK(sftp.lstat('link').st_mode)
assert sftp.stat('link').st_size == {SIZE}
sftp.remove('link')
sftp.mkdir('b')
sftp.rmdir('b')
assert [entry.filename for entry in sftp.listdir_iter('.')] == ['a']
"
    );
    paramiko(scene, &script)?;
    holds(&scene.there("a/moved"), &bytes(2))?;
    has_mode(&scene.there("a/moved"), 0o604)?;
    has_time(&scene.there("a/moved"), OLD)?;
    holds_names(&scene.root, &["a"])
}

fn paramiko_works_in_place(scene: &Scene) -> Result<()> {
    let mut content = make(&scene.there("file"), 4)?;
    let script = "
with sftp.open(folder + 'file', 'r+b') as file:
    file.seek(1000)
    file.write(b'in the middle')
    file.seek(1003)
    assert file.read(4) == b'the '
    file.seek(0, 2)
    size = file.tell()
    file.write(b'at the end')
    assert file.stat().st_size == size + 10
with sftp.open(folder + 'file', 'ab') as file:
    file.write(b', and more')
sftp.truncate(folder + 'cut', 5)
with sftp.open(folder + 'cut', 'r+b') as file:
    file.truncate(9)
with sftp.open(folder + 'new', 'wxb') as file:
    file.write(b'first')
try:
    sftp.open(folder + 'new', 'wxb')
    raise AssertionError('a file was made twice')
except IOError:
    pass
";
    make(&scene.there("cut"), 5)?;
    paramiko(scene, script)?;
    content.splice(1_000..1_013, *b"in the middle");
    content.extend_from_slice(b"at the end, and more");
    holds(&scene.there("file"), &content)?;
    let mut cut = bytes(5);
    cut.truncate(5);
    cut.extend_from_slice(&[0; 4]);
    holds(&scene.there("cut"), &cut)?;
    holds(&scene.there("new"), b"first")
}

fn paramiko_sees_errors(scene: &Scene) -> Result<()> {
    std::fs::create_dir_all(scene.there("full/of")).doing(|| "making a folder".to_owned())?;
    let script = "
import errno
def refused(call, *args, number=None):
    try:
        call(*args)
    except IOError as error:
        assert number is None or error.errno == number, (call, args, error)
    else:
        raise AssertionError((call, args))
refused(sftp.stat, folder + 'nothing', number=errno.ENOENT)
refused(sftp.open, folder + 'nothing', number=errno.ENOENT)
refused(sftp.open, folder + 'no/folder/file', 'wb', number=errno.ENOENT)
refused(sftp.listdir, folder + 'nothing', number=errno.ENOENT)
refused(sftp.remove, folder + 'nothing', number=errno.ENOENT)
refused(sftp.mkdir, folder + 'full')
refused(sftp.rmdir, folder + 'full')
refused(sftp.readlink, folder + 'full')
refused(sftp.open, folder + 'full', 'wb')
refused(sftp.open, folder + 'n' * 300, 'wb')
# The session goes on after each of them.
assert sftp.listdir(folder) == ['full'], sftp.listdir(folder)
";
    paramiko(scene, script)?;
    holds_names(&scene.root, &["full"])
}

fn asyncssh_moves_trees(scene: &Scene) -> Result<()> {
    make_tree(&scene.here("tree"), Names::Any)?;
    // asyncssh takes a backslash for a separator, and refuses it.
    let name = scene.here("tree/back\\slash");
    std::fs::remove_file(&name).doing(|| format!("removing {}", name.display()))?;
    make(&scene.here("tree/dated"), 1)?;
    let script = "
await sftp.put(local + 'tree', folder + 'tree', recurse=True, preserve=True)
await sftp.get(folder + 'tree', local + 'back', recurse=True, preserve=True)
found = await sftp.glob(folder + 'tree/d*d')
assert found == [folder + 'tree/dated'], found
# In bytes, as some names are no text.
async for entry in sftp.scandir((folder + 'tree').encode()):
    if entry.filename == b'dated':
        assert entry.attrs.size == 1300021, entry
        break
else:
    raise AssertionError('not listed')
await sftp.rmtree((folder + 'tree/in ner').encode())
";
    asyncssh(scene, script)?;
    same_tree(&scene.here("tree"), &scene.here("back"))?;
    has_time(&scene.there("tree/dated"), OLD)?;
    has_time(&scene.here("back/dated"), OLD)?;
    has_mode(&scene.there("tree/dated"), 0o640)?;
    is_absent(&scene.there("tree/in ner"))
}

fn asyncssh_reads_side_by_side(scene: &Scene) -> Result<()> {
    make(&scene.there("file"), 2)?;
    make(&scene.here("file"), 2)?;
    let script = "
data = open(local + 'file', 'rb').read()
async with sftp.open(folder + 'file', 'rb') as file:
    async def piece(at):
        return await file.read(9001, at)
    places = list(range(0, len(data), 9001))
    pieces = await asyncio.gather(*[piece(at) for at in places])
    assert b''.join(pieces) == data
    assert await file.read(100, len(data)) == b''
# Writes side by side, the last one first.
async with sftp.open(folder + 'copy', 'wb') as file:
    await asyncio.gather(*[file.write(data[at:at + 9001], at) for at in reversed(places)])
async def stat(number):
    return (await sftp.stat(folder + ('file' if number % 2 else 'copy'))).size
assert set(await asyncio.gather(*[stat(number) for number in range(200)])) == {len(data)}
# Two sessions on one connection.
async with connection.start_sftp_client() as other:
    assert (await other.stat(folder + 'copy')).size == len(data)
    await other.rename(folder + 'copy', folder + 'renamed')
assert not await sftp.exists(folder + 'copy')
";
    asyncssh(scene, script)?;
    holds(&scene.there("renamed"), &bytes(2))
}

fn asyncssh_uses_extensions(scene: &Scene) -> Result<()> {
    make(&scene.there("file"), 3)?;
    let script = format!(
        "
space = await sftp.statvfs(folder)
assert space.blocks > 0 and space.bsize > 0, space
await sftp.link(folder + 'file', folder + 'hard')
await sftp.posix_rename(folder + 'hard', folder + 'other')
async with sftp.open(folder + 'synced', 'wb') as file:
    await file.write(b'synced')
    await file.fsync()
    assert (await file.statvfs()).blocks > 0
await sftp.utime(folder + 'synced', ({OLD}, {OLD}))
await sftp.symlink('synced', folder + 'link')
await sftp.utime(folder + 'link', ({OLD} + 5, {OLD} + 5), follow_symlinks=False)
assert (await sftp.lstat(folder + 'link')).mtime == {OLD} + 5
assert (await sftp.stat(folder + 'link')).mtime == {OLD}
limits = sftp.limits
assert limits.max_read_len >= 32768 and limits.max_write_len >= 32768, limits
if sftp.supports_remote_copy:
    # Given names, it leaves both handles open, and what is not closed is not published.
    async with sftp.open(folder + 'file', 'rb') as source, sftp.open(folder + 'copied', 'wb') as target:
        await sftp.remote_copy(source, target)
    assert (await sftp.stat(folder + 'copied')).size == {SIZE}
else:
    await sftp.copy(folder + 'file', folder + 'copied')
"
    );
    asyncssh(scene, &script)?;
    for name in ["other", "file", "copied"] {
        holds(&scene.there(name), &bytes(3))?;
    }
    holds(&scene.there("synced"), b"synced")?;
    has_time(&scene.there("synced"), OLD)
}

fn asyncssh_opens_many(scene: &Scene) -> Result<()> {
    make(&scene.there("file"), 4)?;
    // Many handles at once; whatever the server's limit is, the session outlives it.
    let script = format!(
        "
handles = []
try:
    for _ in range(10000):
        handles.append(await sftp.open(folder + 'file', 'rb'))
except asyncssh.SFTPError as error:
    assert len(handles) >= 50, (len(handles), error)
assert (await sftp.stat(folder + 'file')).size == {SIZE}
await asyncio.gather(*[handle.close() for handle in handles])
async with sftp.open(folder + 'file', 'rb') as file:
    assert len(await file.read(100)) == 100
"
    );
    asyncssh(scene, &script)?;
    holds(&scene.there("file"), &bytes(4))
}

// What arrives below /out is mirrored on another server, under the same path. The secret is JSON:
// {"private_key": "…", "hostKeySHA256": "SHA256:…"}.
const path = CtxRelPath();
if (path.startsWith('/out/')) {
  const far = new SftpClient().Configure('sftp://mirror@backup.example/', GetSecret('mirror'));
  if (!far.Connect()) throw new Error(far.LastError);
  const there = far.GetVFS(), folder = path.slice(0, path.lastIndexOf('/'));
  for (const r of [there.MkdirAll(folder), GetCurrentVFS().CopyToVFS(path, there)]) {
    if (!r.Ok()) throw new Error(path + ': ' + r.ErrorMsg());
  }
}

// What lies below /out is mirrored in a bucket, under the same path: what arrives, is renamed or is removed. One file
// for three events. The secret is JSON: {"api_key_id": "…", "api_key_secret": "…"}.
const inside = path => path.startsWith('/out/');
const [gone, come] = CtxEvent() === 'AfterFileUpload' ? ['', CtxRelPath()] : [CtxRelPath(), CtxRelTargetPath()];
const good = r => { if (!r.Ok()) throw new Error((come || gone) + ': ' + r.ErrorMsg()); return r; };

if (inside(gone) || inside(come)) {
  const bucket = new S3Client().Configure('s3://backup?region=eu-central-1', GetSecret('bucket'));
  if (!bucket.Connect()) throw new Error(bucket.LastError);
  const here = GetCurrentVFS(), there = bucket.GetVFS();
  const copy = (path, isDir) => {
    good(there.MkdirAll(isDir ? path : path.slice(0, path.lastIndexOf('/'))));
    if (!isDir) good(here.CopyToVFS(path, there));
    else for (const e of good(here.ReadDir(path)).Infos()) if (e.Type !== 'symlink') copy(path + '/' + e.Name, e.IsDir);
  };
  if (inside(come)) copy(come, good(here.Stat(come)).Info().IsDir);
  if (inside(gone) && there.Stat(gone).Ok()) good(there.RemoveAll(gone));
}

// What reaches beyond the session's own files: other places as filesystems, clients of other servers, mail and
// databases. Called once by the prelude, which freezes what comes of it; `kit` are the prelude's own helpers.
(function (native, kit) {
  'use strict';
  const { base, data, filesAt, host, item, path, string, words } = kit;
  const parse = JSON.parse, stringify = JSON.stringify, TypeErrorOf = TypeError, ErrorOf = Error, BytesOf = Uint8Array, isArray = Array.isArray;
  const text = (v, what) => v === undefined || v === null ? '' : string(v, what);

  // ---- places: opened when they are first used, and told by a number

  const lazily = request => {
    const asked = stringify(request);
    native.mayOpen(asked);
    let opened = null;
    return () => opened ??= native.open(asked);
  };
  const folder = where => lazily({ kind: 'disk', folder: string(where, 'the folder') });
  // A path of this machine as a folder and a name in it.
  const split = p => {
    const at = string(p, 'the path').lastIndexOf('/');
    if (at < 0) throw new TypeErrorOf('a path of this machine is a whole path: ' + p);
    return [at === 0 ? '/' : p.slice(0, at), p.slice(at + 1)];
  };
  const copy = (from, a, to, b, numbers) => {
    const source = from();
    if (!source.ok) return source;
    const target = to();
    if (!target.ok) return target;
    return native.copy(source.place, path(a), target.place, path(b), numbers);
  };

  // How two filesystems find each other: what opens them is nobody else's to call.
  const opens = new WeakMap(), know = WeakMap.prototype.get.bind(opens), learn = WeakMap.prototype.set.bind(opens);
  const opener = v => {
    const open = typeof v === 'object' && v !== null ? know(v) : undefined;
    if (open === undefined) throw new TypeErrorOf('the target must be a VFS');
    return open;
  };
  const between = open => ({
    ImportFile: (local, p) => { const [dir, name] = split(local); return base(copy(folder(dir), '/' + name, open, p, [1, 1])); },
    ExportFile: (p, local) => { const [dir, name] = split(local); return base(copy(open, p, folder(dir), '/' + name, [1, 1])); },
    CopyToVFS: (p, target, at = p) => base(copy(open, p, opener(target), at, [1, 1])),
    MoveToVFS: (p, target, at = p) => {
      const r = copy(open, p, opener(target), at, [1, 1]);
      return base(r.ok ? native.files(open().place, 'remove', path(p), null, [], null) : r);
    },
  });
  const vfsAt = open => { const vfs = filesAt(open, between); learn(vfs, open); return vfs; };

  // ---- where other servers are: a URL with a query, and what is secret as JSON

  const pairs = query => query.split('&').filter(p => p !== '').map(p => {
    const at = p.indexOf('=');
    return at < 0 ? [p, ''] : [p.slice(0, at), decodeURIComponent(p.slice(at + 1))];
  });
  const known = {
    user: 'User', pass: 'Pass', hostKeyMD5: 'HostKeyMD5', hostKeySHA1: 'HostKeySHA1', hostKeySHA256: 'HostKeySHA256',
    keyFile: 'KeyFile', keyFilePass: 'KeyFilePass', hostID: 'HostID', private_key: 'Key', private_key_pass: 'KeyFilePass',
    certSHA256: 'CertSHA256', token: 'Token', tlsInsecure: 'TLSInsecure', region: 'Region', pathStyle: 'PathStyle',
    api_key_id: 'APIKeyID', api_key_secret: 'APIKeySecret',
  };
  const apply = (to, name, value) => {
    if (!Object.hasOwn(known, name)) throw new TypeErrorOf("'" + name + "' is not known of a connection");
    to[known[name]] = value;
  };
  const configure = (to, url, payload) => {
    const whole = string(url, 'the URL'), at = whole.indexOf('?');
    to.URL = at < 0 ? whole : whole.slice(0, at);
    if (at >= 0) for (const [name, value] of pairs(whole.slice(at + 1))) apply(to, name, value);
    const secret = text(payload, 'the payload').trim();
    if (secret === '') return to;
    let all;
    // A parser quotes what it could not read.
    try { all = parse(secret); } catch { throw new TypeErrorOf('the payload is no JSON'); }
    if (typeof all !== 'object' || all === null || isArray(all)) throw new TypeErrorOf('the payload must be an object');
    for (const name of Object.keys(all)) apply(to, name, all[name]);
    return to;
  };
  // The private key: given, or in a file of this machine that may be read.
  const keyOf = c => {
    if (text(c.Key, 'the key') !== '' || text(c.KeyFile, 'the key file') === '') return text(c.Key, 'the key');
    const [dir, name] = split(c.KeyFile);
    const r = filesAt(folder(dir), between).ReadFileAsText('/' + name, 65536);
    if (!r.Ok()) throw new ErrorOf('the key file cannot be read: ' + r.ErrorMsg());
    return r.Data();
  };
  const isSet = v => v === true || v === 'true';
  // What stands for a password: given, or the name of a secret.
  const passOf = c => {
    const named = text(c.APIKeySecretFromSecret, "the secret's name"), given = text(c.APIKeySecret, 'the secret');
    return given !== '' ? given : named !== '' ? native.secret(named) : text(c.Pass, 'the password');
  };
  const remote = (c, url, rooted) => {
    if (isSet(c.TLSInsecure)) throw new TypeErrorOf('a certificate that nobody vouches for is named by its fingerprint: CertSHA256');
    if (text(c.HostKeySHA1, 'the host key') !== '') throw new TypeErrorOf('a host key is named by its SHA-256: HostKeySHA256');
    const all = (...list) => list.map(v => text(v, 'a fingerprint')).filter(v => v !== '');
    return {
      kind: 'remote', url, rooted, user: text(c.APIKeyID, 'the id of the key') || text(c.User, 'the user'), pass: passOf(c), key: keyOf(c),
      phrase: text(c.KeyFilePass, 'the passphrase'), token: text(c.Token, 'the token'),
      hostKeys: all(c.HostKeySHA256, c.HostKeyMD5), certificates: all(c.CertSHA256),
      region: text(c.Region, 'the region'), pathStyle: isSet(c.PathStyle),
    };
  };

  const schemes = { SFTP: ['sftp'], FTPS: ['ftps', 'ftpes', 'ftp'], S3: ['s3', 's3plain'], WebDAV: ['davs', 'https', 'dav', 'http'] };
  const VirtualFS = function (type, target, payload) {
    if (type === 'Disk') return vfsAt(folder(target));
    if (type === 'Memory') return vfsAt(lazily({ kind: 'memory' }));
    if (!Object.hasOwn(schemes, type)) throw new TypeErrorOf("a VFS of type '" + type + "' cannot be opened here");
    native.mayOpen('{"kind":"remote"}');
    const c = configure({}, target, payload), scheme = c.URL.slice(0, c.URL.indexOf(':'));
    if (!schemes[type].includes(scheme)) throw new TypeErrorOf('the target must be a URL: ' + schemes[type][0] + '://user@host/path');
    let open = null;
    return vfsAt(() => (open ??= lazily(remote(c, c.URL, true)))());
  };

  // ---- clients

  const later = ['VersionedDownload', 'VersionedUpload', 'OTFE'];
  const client = (fields, urlOf, rooted = false) => {
    let open = null;
    const c = { Host: '', URL: '', User: '', Pass: '', HostID: '', ...fields, LastError: '' };
    c.Options = {
      StopOnTransferError: false, UploadPolicy: 0, DownloadPolicy: 0, AdjustTimeOnUpload: false, AdjustTimeOnDownload: false,
      UploadWithTempName: false, DownloadWithTempName: false, DeleteSourceAfterUpload: false, DeleteSourceAfterDownload: false,
    };
    const failed = (what, error) => { c.LastError = error; native.log('error', words([(c.HostID || c.Host || 'client') + ': ' + what + ': ' + error])); return false; };
    const at = () => open === null ? { ok: false, error: 'it is not connected' } : open();
    const files = filesAt(at, between);
    learn(files, at);
    const done = (what, r) => r.Ok() || failed(what, r.ErrorMsg());
    const listed = (vfs, dir) => { const r = vfs.ReadDir(dir); if (!r.Ok()) throw new ErrorOf(dir + ': ' + r.ErrorMsg()); return r.Infos(); };
    const join = (dir, name) => dir.endsWith('/') ? dir + name : dir + '/' + name;
    const deep = (dir, prefix, wanted, out) => {
      for (const e of listed(files, dir)) {
        const named = Object.freeze({ ...e, Name: prefix + e.Name });
        if (wanted(e)) out.push(named);
        if (e.IsDir) deep(join(dir, e.Name), prefix + e.Name + '/', wanted, out);
      }
      return out;
    };
    const types = n => e => n === 1 ? !e.IsDir : n === 2 ? e.IsDir : true;
    const mask = m => { const units = path(m); return e => !e.IsDir && native.matches(units, path(e.Name)); };
    // Files of one folder, and of those below it, to another place.
    const transfer = (from, dir, m, to, target, recursive, how) => {
      const source = filesAt(from, between), goal = filesAt(to, between);
      const numbers = [how.policy, how.time ? 1 : 0, how.temporary ? 1 : 0];
      let good = true;
      const one = name => {
        const at = join(dir, name), r = copy(from, at, to, join(target, name), numbers);
        if (r.ok && r.copied && how.moves) return done(at, source.Remove(at));
        return r.ok || failed(at, r.error);
      };
      if (!recursive && !m.includes('*') && !m.includes('?')) return one(m);
      const all = source.ReadDir(dir);
      if (!all.Ok()) return failed(dir, all.ErrorMsg());
      const is = mask(m);
      for (const e of all.Infos()) {
        if (e.IsDir && recursive) {
          const below = join(target, e.Name);
          good = done(below, goal.MkdirAll(below)) && transfer(from, join(dir, e.Name), m, to, below, true, how) && good;
        } else if (e.Type === 'file' && is(e)) {
          good = one(e.Name) && good;
        }
        if (!good && how.stops) return false;
      }
      return good;
    };
    const way = up => {
      const o = c.Options, side = up ? 'Upload' : 'Download';
      for (const name of later) if (o[name]) throw new TypeErrorOf(name + ' is not built');
      return { policy: o[side + 'Policy'], time: o['AdjustTimeOn' + side], temporary: o[side + 'WithTempName'], moves: o['DeleteSourceAfter' + side], stops: o.StopOnTransferError };
    };
    const upload = recursive => (local, dir) => { const how = way(true), [from, m] = split(local); return transfer(folder(from), '/', m, at, string(dir, 'the folder'), recursive, how); };
    const download = recursive => (p, local) => {
      const how = way(false), cut = string(p, 'the path').lastIndexOf('/');
      return transfer(at, cut < 0 ? '.' : cut === 0 ? '/' : p.slice(0, cut), p.slice(cut + 1), folder(local), '/', recursive, how);
    };
    return Object.assign(c, {
      Configure: (url, payload) => configure(c, url, payload),
      Connect: () => {
        if (open !== null) return failed('Connect', 'it is connected');
        native.mayOpen('{"kind":"remote"}');
        const one = lazily(remote(c, c.URL === '' ? urlOf(c) : c.URL, rooted)), r = one();
        if (!r.ok) return failed('Connect', r.error);
        open = one;
        return true;
      },
      Close: () => { const was = open; open = null; return was !== null && native.letGo(was().place); },
      GetVFS: () => files,
      ListDir: (dir, n = 0) => listed(files, dir).filter(types(n)),
      ListDirR: (dir, n = 0) => deep(dir, '', types(n), []),
      ListFiles: (dir, m) => listed(files, dir).filter(mask(m)),
      ListFilesR: (dir, m) => deep(dir, '', mask(m), []),
      MakeDir: dir => done(dir, files.MkdirAll(dir)),
      RenDir: (from, to) => done(from, files.Rename(from, to)),
      DelDir: dir => done(dir, files.Rmdir(dir)),
      DelTree: dir => done(dir, files.RemoveAll(dir)),
      RenFile: (from, to) => done(from, files.Rename(from, to)),
      DelFile: p => done(p, files.Remove(p)),
      Upload: upload(false),
      UploadR: upload(true),
      Download: download(false),
      DownloadR: download(true),
    });
  };
  const hosted = scheme => c => { if (text(c.Host, 'the host') === '') throw new TypeErrorOf('there is no Host'); return scheme + '://' + c.Host + '/'; };
  const SftpClient = function () {
    return client({ Key: '', KeyFile: '', KeyFilePass: '', HostKeyMD5: '', HostKeySHA1: '', HostKeySHA256: '' }, hosted('sftp'));
  };
  const tls = ['ftp', 'ftpes', 'ftps'];
  const FtpsClient = function () {
    return client({ TLSMode: 1, TLSInsecure: false, CertSHA256: '' }, c => {
      if (!Object.hasOwn(tls, c.TLSMode)) throw new TypeErrorOf('there is no such TLSMode');
      return hosted(tls[c.TLSMode])(c);
    });
  };
  const WebDavClient = function () {
    return client({ TLSMode: 2, TLSInsecure: false, CertSHA256: '', Token: '' }, c => hosted(c.TLSMode === 0 ? 'dav' : 'davs')(c));
  };
  // A bucket is a root of its own; without a host it is one of AWS, and without a name the buckets are the folders.
  const S3Client = function () {
    const fields = { APIKeyID: '', APIKeySecret: '', APIKeySecretFromSecret: '', Bucket: '', Region: '', Token: '', PathStyle: false };
    return client({ ...fields, TLSMode: 2, TLSInsecure: false, CertSHA256: '', UseMetadataWhenListing: false }, c => {
      const clear = c.TLSMode === 0, host = text(c.Host, 'the host');
      const port = host === '' || /:\d+$/.test(host) ? '' : clear ? ':80' : ':443';
      return (clear ? 's3plain://' : 's3://') + host + port + '/' + encodeURIComponent(text(c.Bucket, 'the bucket'));
    }, true);
  };

  // ---- mail and databases

  const SendMail = (from, to, subject, body, attachment) => {
    const list = isArray(to) ? to.map(a => string(a, 'an address')) : [string(to, 'the address')];
    const file = text(attachment, 'the attachment');
    host('mail', {
      from: text(from, 'the sender'), to: list, subject: text(subject, 'the subject'), body: text(body, 'the text'),
      attachment: file.slice(file.lastIndexOf('/') + 1),
    }, file === '' ? null : file);
  };
  const given = v => {
    if (v === null || v === undefined) return null;
    if (v instanceof BytesOf) return { bytes: native.base64Encode(data(v)) };
    if (v instanceof Date) return v.toISOString();
    if (typeof v === 'string' || typeof v === 'boolean' || (typeof v === 'number' && Number.isFinite(v))) return v;
    if (typeof v === 'bigint') return v.toString();
    throw new TypeErrorOf('a parameter is null, a boolean, a number, a string, a Date or a Uint8Array');
  };
  const told = v => typeof v === 'object' && v !== null ? native.base64Decode(v.bytes) : v;
  const SqlQuery = (connection, query, parameters = []) => {
    if (!isArray(parameters)) throw new TypeErrorOf('the parameters must be a list');
    const r = host('sql', { connection: string(connection, 'the connection'), text: string(query, 'the query'), parameters: parameters.map(given) });
    const Rows = r.Rows.map(row => Object.fromEntries(row.map((v, i) => [r.Columns[i], told(v)])));
    return Object.freeze({ Columns: r.Columns, Rows, Affected: r.Affected });
  };

  return {
    between,
    globals: {
      AlwaysOverwrite: 1, FtpsClient, LIST_ALL: 0, LIST_DIRS: 2, LIST_FILES: 1, NeverOverwrite: 0, OverwriteIfDiffSize: 2, OverwriteIfNewer: 3,
      S3Client, SendMail, SftpClient, SqlQuery, TLS_MODE_EXPLICIT: 1, TLS_MODE_IMPLICIT: 2, TLS_MODE_NONE: 0,
      VfsTypeDisk: 'Disk', VfsTypeFTPS: 'FTPS', VfsTypeMemory: 'Memory', VfsTypeS3: 'S3', VfsTypeSFTP: 'SFTP', VfsTypeWebDAV: 'WebDAV',
      VirtualFS, WebDavClient,
    },
    learn,
    opener,
  };
})

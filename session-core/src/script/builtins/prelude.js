// Shapes the natives into what scripts see; runs once for each context, before any script. `text` turns code
// units into a string, where bytes are not UTF-8; `units` is its inverse. The last step freezes everything.
(function (native) {
  'use strict';
  const fromUnits = String.fromCharCode, DateOf = Date, TypeErrorOf = TypeError, parse = JSON.parse, stringify = JSON.stringify;
  const isArray = Array.isArray, isInteger = Number.isInteger, BytesOf = Uint8Array, define = Object.defineProperty;
  const text = v => typeof v === 'string' ? v : fromUnits.apply(null, v);
  const units = s => { const out = []; for (let i = 0; i < s.length; i++) out.push(s.charCodeAt(i)); return out; };
  const string = (v, what) => { if (typeof v !== 'string') throw new TypeErrorOf(what + ' must be a string'); return v; };
  const path = v => units(string(v, 'the path'));
  // Content for the natives: `t` and text, or `b` and one character for each byte.
  const data = v => {
    if (typeof v === 'string') return 't' + v;
    if (!(v instanceof BytesOf)) throw new TypeErrorOf('the data must be a string or a Uint8Array');
    let out = 'b';
    for (let i = 0; i < v.length; i += 8192) out += fromUnits.apply(null, v.subarray(i, i + 8192));
    return out;
  };
  const whole = (v, what) => { if (!Number.isSafeInteger(v)) throw new TypeErrorOf(what + ' must be a whole number'); return v; };
  const position = v => { if (!isInteger(v) || v < 0 || v > 99) throw new TypeErrorOf('the position must be 0 to 99'); return v; };
  const seconds = v => { if (v === undefined || v === null) return null; if (typeof v !== 'number' || !(v > 0)) throw new TypeErrorOf('the time must be seconds, more than 0'); return v; };
  const date = ms => ms == null ? null : new DateOf(ms);
  const words = all => all.map(w => typeof w === 'string' ? w : w instanceof Error ? String(w) : typeof w === 'object' && w !== null ? stringify(w) : String(w)).join(' ');

  const user = () => {
    const json = native.user();
    if (json == null) return null;
    const u = parse(json);
    const groups = Object.freeze(u.groups), methods = Object.freeze(u.methods);
    return Object.freeze({
      GetID: () => u.id, GetName: () => u.name, GetHome: () => u.home, GetGroups: () => groups,
      GetAuthMethods: () => methods, IsAnonymous: () => u.anonymous,
      GetCustom: key => Object.hasOwn(u.custom, key) ? u.custom[key] : '',
      GetPermissions: p => { const all = native.permissions(path(p)); return all == null ? null : Object.freeze(all); },
      GetQuota: () => { const q = native.quota(); return q == null ? null : Object.freeze(parse(q)); },
      ID: u.id, UserID: u.id, Username: u.name, HomeDir: u.home,
    });
  };

  const Session = {
    GetID: () => native.fact('id'),
    GetUser: user,
    GetUserID: () => native.fact('user'),
    GetVirtualSite: () => native.fact('site'),
    GetRemoteAddress: () => native.fact('address'),
    GetRemotePort: () => native.number('port'),
    GetClientVersion: () => native.fact('client'),
    GetProtocol: () => native.fact('protocol'),
    GetStartTime: () => date(native.time('start')),
    GetLastActivity: () => date(native.time('activity')),
    BlockOperation: reason => native.block(reason === undefined ? '' : string(reason, 'the reason')),
    AddCustomData: s => native.addCustom(string(s, 'custom data')),
    GetCustomData: i => { const all = native.custom(); return isInteger(i) && i >= 0 && i < all.length ? all[i] : ''; },
    GetAllCustomData: () => native.custom(),
    SetTag: (name, value) => native.setTag(string(name, 'the name of a tag'), string(value, 'the value of a tag')),
    GetTag: name => native.tag(string(name, 'the name of a tag')),
    AddQuestion: (pos, q, a, echo) => native.question(position(pos), string(q, 'the question'), 'equals', string(typeof a === 'number' ? String(a) : a, 'the answer'), !!echo),
    AddQuestionPassword: (pos, q) => native.question(position(pos), string(q, 'the question'), 'password', '', false),
    AddQuestionTOTP: (pos, q) => native.question(position(pos), string(q, 'the question'), 'totp', '', false),
    AuthenticateUserFromScript: () => native.authenticate(),
    GetAbsPath: () => text(native.absolute(false)),
    GetRelPath: () => text(native.path(false)),
    GetAbsTargetPath: () => text(native.absolute(true)),
    GetRelTargetPath: () => text(native.path(true)),
    RemoveFromListDir: v => native.hide(units(string(v, 'the name'))),
    GetLastCommand: () => native.fact('command'),
    GetLastCommandTime: () => date(native.time('command')),
    GetLastError: () => native.fact('error'),
    GetLastErrorTime: () => date(native.time('error')),
    GetBytesReceived: () => native.number('received'),
    GetBytesSent: () => native.number('sent'),
    GetCurrentCommand: () => native.fact('current'),
    GetPreviousCommand: () => native.fact('previous'),
    GetCommandStartTime: () => date(native.time('command')),
    GetTLS: () => native.fact('tls'),
    GetCipher: () => native.fact('cipher'),
    GetRequestedUser: () => native.fact('requested'),
    RedirectTo: p => native.redirect(path(p)),
    SetSpeedLimit: n => { if (typeof n !== 'number' || !(n >= 0)) throw new TypeErrorOf('the limit must be bytes per second, or 0 for none'); native.speed(Math.floor(n)); },
    Terminate: reason => native.terminate(reason === undefined ? '' : string(reason, 'the reason')),
  };

  // ---- the user's files

  const base = (r, more) => Object.freeze({ Ok: () => r.ok, ErrorMsg: () => r.error, ...more });
  const item = e => Object.freeze({ Name: text(e.name), Type: e.type, IsDir: e.type === 'directory', Size: e.size, Mode: e.mode, TimeStamp: date(e.time) });
  const order = {
    name: (a, b) => a.Name < b.Name ? -1 : a.Name > b.Name ? 1 : 0,
    namedf: (a, b) => b.IsDir - a.IsDir || order.name(a, b),
    size: (a, b) => a.Size - b.Size || order.name(a, b),
    time: (a, b) => (a.TimeStamp ?? 0) - (b.TimeStamp ?? 0) || order.name(a, b),
  };
  const span = (length, offset, whence) => [length === undefined ? -1 : whole(length, 'the length'), offset === undefined ? 0 : whole(offset, 'the offset'), whence === undefined ? 0 : whole(whence, 'whence')];
  const place = (offset, whence) => offset === undefined && whence === undefined ? [] : [offset === undefined ? 0 : whole(offset, 'the offset'), whence === undefined ? 0 : whole(whence, 'whence')];
  const when = t => { const ms = t instanceof DateOf ? t.getTime() : t; return whole(ms, 'the time'); };
  // The calls on a place; `open` tells its number, or why there is none. `more` is what only some places have.
  const filesAt = (open, more) => {
    const call = (op, p, target, numbers, content) => {
      const at = path(p), to = target === null ? null : path(target), where = open();
      return where.ok ? native.files(where.place, op, at, to, numbers, content) : { ok: false, error: where.error, size: 0 };
    };
    const plain = (op, p, target = null, numbers = [], content = null) => base(call(op, p, target, numbers, content));
    const stat = (op, p) => { const r = call(op, p, null, [], null); const one = r.ok ? item(r.entries[0]) : null; return base(r, { Info: () => one }); };
    const read = (form, p, length, offset, whence) => {
      const r = call('read', p, null, span(length, offset, whence), null);
      const content = r.ok ? form(r.bytes) : form(new BytesOf(0));
      return base(r, { Data: () => content });
    };
    return Object.freeze({
      Stat: p => stat('stat', p),
      Lstat: p => stat('lstat', p),
      ReadDir: (p, by = 'name', dir = 'asc') => {
        if (!Object.hasOwn(order, by) || (dir !== 'asc' && dir !== 'desc')) throw new TypeErrorOf('no such order');
        const r = call('list', p, null, [], null);
        const all = r.ok ? r.entries.map(item).sort(order[by]) : [];
        if (dir === 'desc') all.reverse();
        return base(r, { Infos: () => all });
      },
      Mkdir: p => plain('mkdir', p),
      MkdirAll: p => plain('mkdir-all', p),
      Rmdir: p => plain('rmdir', p),
      Rename: (from, to) => plain('rename', from, to),
      Remove: p => plain('remove', p),
      RemoveAll: p => plain('remove-all', p),
      TreeSize: p => { const r = call('tree-size', p, null, [], null); return base(r, { Size: () => r.size }); },
      Symlink: (target, at) => plain('symlink', target, at),
      Chown: (p, uid, gid) => plain('chown', p, null, [whole(uid, 'the owner'), whole(gid, 'the group')]),
      Chmod: (p, mode) => plain('chmod', p, null, [whole(mode, 'the mode')]),
      Chtimes: (p, atime, mtime) => plain('chtimes', p, null, [when(atime), when(mtime)]),
      Truncate: (p, size) => plain('truncate', p, null, [whole(size, 'the size')]),
      ReadFileAsText: (p, length, offset, whence) => read(b => native.bytesToText(data(b)), p, length, offset, whence),
      ReadFileAsHex: (p, length, offset, whence) => read(b => native.hexEncode(data(b)), p, length, offset, whence),
      ReadFileAsBytes: (p, length, offset, whence) => read(b => b, p, length, offset, whence),
      WriteFileAsText: (p, content, offset, whence) => plain('write', p, null, place(offset, whence), data(string(content, 'the text'))),
      WriteFileAsHex: (p, content, offset, whence) => plain('write', p, null, place(offset, whence), data(native.hexDecode(string(content, 'the text')))),
      WriteFileAsBytes: (p, content, offset, whence) => plain('write', p, null, place(offset, whence), data(content)),
      ...more(open),
    });
  };

  // ---- the host

  const host = (name, argument, file = null) => parse(native.host(name, stringify(argument), file === null ? null : path(file)));
  const bytesOf = b64 => native.base64Decode(b64);
  const outbound = native.outbound(native, { base, data, filesAt, host, item, path, string, words });
  const own = Object.freeze({ ok: true, place: 0 });
  const vfs = filesAt(() => own, outbound.between);
  outbound.learn(vfs, () => own);
  const PGP = native.shapePgp(native, { base, data, opener: outbound.opener, path, string });
  const texts = (v, what) => { if (!isArray(v)) throw new TypeErrorOf(what + ' must be a list of strings'); return v.map(s => string(s, what)); };
  const fetch = async (url, options = {}) => {
    const body = options.body === undefined ? null : native.base64Encode(data(options.body));
    const headers = Object.entries(options.headers ?? {}).map(([k, v]) => [k, string(v, 'a header')]);
    const r = host('fetch', { url: string(url, 'the URL'), method: string(options.method ?? 'GET', 'the method'), headers, body });
    const bytes = bytesOf(r.body);
    return Object.freeze({
      status: r.status, ok: r.status >= 200 && r.status < 300, url,
      headers: Object.freeze({ get: name => { const all = r.headers.filter(h => h[0] === String(name).toLowerCase()).map(h => h[1]); return all.length ? all.join(', ') : null; } }),
      text: async () => native.bytesToText(data(bytes)), json: async () => parse(native.bytesToText(data(bytes))), bytes: async () => bytes,
    });
  };

  const choice = filter => {
    if (typeof filter !== 'object' || filter === null) throw new TypeErrorOf('the filter must be an object');
    return Object.fromEntries(Object.entries(filter).map(([k, v]) => [k, string(v, 'a filter')]));
  };
  const log = level => (...all) => native.log(level, words(all));
  const globals = {
    Base64Decode: t => native.base64Decode(string(t, 'the text')),
    Base64Encode: d => native.base64Encode(data(d)),
    BytesToText: b => native.bytesToText(data(b)),
    CtxEvent: () => native.event(),
    CtxRelPath: () => text(native.path(false)),
    CtxRelTargetPath: () => text(native.path(true)),
    CtxRemoteAddress: () => native.peer(),
    CtxSize: () => native.size(),
    CtxVerdicts: () => native.findings(false),
    CtxNotice: () => { const json = native.facts(); return json === '' ? null : Object.freeze(parse(json)); },
    CtxDigest: () => native.findings(true)[0] ?? '',

    Exec: (program, args = [], options = {}) => Object.freeze(host('exec', {
      program: string(program, 'the program'), arguments: texts(args, 'the arguments'),
      input: options.input === undefined ? null : native.base64Encode(data(options.input)), time: seconds(options.time),
    }, options.inputFile ?? null)),
    Exit: () => native.exit(),
    ExtractExt: p => { const name = string(p, 'the path').slice(p.lastIndexOf('/') + 1); const dot = name.lastIndexOf('.'); return dot > 0 ? name.slice(dot) : ''; },
    FromCurrent: 1, FromEnd: 2, FromStart: 0,
    GetCurrentVFS: () => native.hasFiles() ? vfs : null,
    GetSecret: name => native.secret(string(name, 'the name')),
    Hash: (algorithm, d) => native.hash(string(algorithm, 'the algorithm'), data(d)),
    HexDecode: t => native.hexDecode(string(t, 'the text')),
    HexEncode: d => native.hexEncode(data(d)),
    Hmac: (algorithm, key, d) => native.hmac(string(algorithm, 'the algorithm'), data(key), data(d)),
    Log: log('info'),
    QuarantineUpload: reason => native.quarantine(reason === undefined ? '' : string(reason, 'the reason')),
    RefuseConnection: reason => native.refuse(reason === undefined ? '' : string(reason, 'the reason')),
    Report: (name, error) => { host('report', { name: string(name, 'the name'), error }); },
    RunHandler: (file, input) => host('run', { file: string(file, 'the file'), ...input }),
    Sessions: {
      list: (filter = {}) => host('sessions', { what: 'list', filter: choice(filter) }),
      terminate: (which, reason) => host('sessions', { what: 'terminate', filter: typeof which === 'string' ? { id: which } : choice(which), reason: reason === undefined ? '' : string(reason, 'the reason') }),
    },
    SetSoftwareID: id => native.softwareId(string(id, 'the identification')),
    Sleep: ms => native.sleep(Number(ms)),
    SortAsc: 'asc', SortByName: 'name', SortByNameDirsFirst: 'namedf', SortBySize: 'size', SortByTime: 'time', SortDesc: 'desc',
    Store: {
      Add: (key, value, time) => native.keep('add', string(key, 'the key'), string(value, 'the value'), 0, seconds(time)) === 1,
      Delete: key => native.keep('delete', string(key, 'the key'), '', 0, null) === 1,
      Get: key => native.kept(string(key, 'the key')),
      Increment: (key, by = 1, time) => native.keep('increment', string(key, 'the key'), '', whole(by, 'the step'), seconds(time)),
      Set: (key, value, time) => { native.keep('set', string(key, 'the key'), string(value, 'the value'), 0, seconds(time)); },
    },
    ...outbound.globals,
    PGP,
    TextToBytes: t => native.textToBytes(data(string(t, 'the text'))),
    console: { debug: log('debug'), error: log('error'), info: log('info'), log: log('info'), warn: log('warn') },
    fetch,
  };

  const enter = handler => hasSession => handler(hasSession ? Session : null);
  const freeze = o => {
    if ((typeof o !== 'object' && typeof o !== 'function') || o === null || Object.isFrozen(o)) return;
    Object.freeze(o);
    for (const key of Reflect.ownKeys(o)) {
      const d = Reflect.getOwnPropertyDescriptor(o, key);
      if ('value' in d) freeze(d.value); else { freeze(d.get); freeze(d.set); }
    }
    freeze(Reflect.getPrototypeOf(o));
  };
  // What is frozen in a prototype cannot be assigned in what inherits from it, which scripts and natives do
  // with these: a setter gives the inheritor a property of its own.
  const lend = (proto, key) => {
    const value = proto[key];
    define(proto, key, {
      get: () => value, enumerable: false, configurable: false,
      set(v) { define(this, key, { value: v, writable: true, enumerable: key === 'toString', configurable: true }); },
    });
  };
  for (const kind of [Error, AggregateError, EvalError, InternalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError]) {
    for (const key of ['message', 'name']) lend(kind.prototype, key);
  }
  for (const key of ['toString', 'valueOf']) lend(Object.prototype, key);
  const hidden = { enumerable: false, writable: false, configurable: false };
  define(globalThis, '__enter', { ...hidden, value: enter });
  for (const name of Object.keys(globals)) define(globalThis, name, { ...hidden, value: globals[name] });
  define(globalThis, 'Session', { enumerable: false, configurable: false, get: () => native.hasSession() ? Session : null, set: undefined });
  for (const sample of [async function () {}, function* () {}, async function* () {}, [][Symbol.iterator](), new Map()[Symbol.iterator](), new Set()[Symbol.iterator](), ''[Symbol.iterator](), /a/[Symbol.matchAll]('a')]) freeze(sample);
  for (const mine of [Session, vfs, enter]) freeze(mine);
  freeze(globalThis);
})

// `PGP`: what the host's PGP does with files and texts. Called once by the prelude, which freezes what comes of it.
(function (native, kit) {
  'use strict';
  const { base, data, opener, path, string } = kit;
  const stringify = JSON.stringify, TypeErrorOf = TypeError, isArray = Array.isArray, freeze = Object.freeze;

  const fingerprint = (v, what) => v === undefined || v === null ? null : string(v, what);
  const list = (v, what) => {
    if (v === undefined || v === null) return [];
    if (!isArray(v)) throw new TypeErrorOf(what + ' must be a list of fingerprints');
    return v.map(s => string(s, what));
  };
  const armored = (o, usual) => o.armor === undefined ? usual : !!o.armor;
  // A file: a path of the user's, or of another VFS, which may not open.
  const file = v => {
    if (typeof v === 'string') return { place: 0, path: path(v) };
    if (typeof v !== 'object' || v === null) throw new TypeErrorOf('a file is a path, or { vfs, path }');
    const at = path(v.path), where = opener(v.vfs)();
    return where.ok ? { place: where.place, path: at } : where;
  };
  const given = v => ({ data: data(v) }), answer = {};
  const call = (form, task, from, to) => {
    const closed = [from, to].find(end => end.ok === false);
    const r = closed ? { ok: false, error: closed.error, signers: [] } : native.pgp(stringify(task), from, to);
    const content = r.ok ? form(r.bytes) : '', signers = freeze(r.signers);
    return base(r, { Data: () => content, Signers: () => signers });
  };
  const nothing = () => '';
  const text = bytes => native.bytesToText(data(bytes));

  const encrypt = (o, usual) => ({ what: 'encrypt', recipients: list(o.recipients, 'recipients'), sign: fingerprint(o.sign, 'sign'), armor: armored(o, usual) });
  const decrypt = o => ({ what: 'decrypt', key: fingerprint(o.key, 'key'), signers: list(o.signers, 'signers') });
  const sign = (o, usual) => ({ what: 'sign', key: string(o.key, 'key'), armor: armored(o, usual) });
  const verify = o => ({ what: 'verify', signers: list(o.signers, 'signers') });
  return {
    EncryptFile: (from, to, options = {}) => call(nothing, encrypt(options, false), file(from), file(to)),
    DecryptFile: (from, to, options = {}) => call(nothing, decrypt(options), file(from), file(to)),
    SignFile: (from, signature, options = {}) => call(nothing, sign(options, false), file(from), file(signature)),
    VerifyFile: (from, signature, options = {}) => call(nothing, verify(options), file(from), file(signature)),
    EncryptText: (v, options = {}) => call(text, encrypt({ ...options, armor: true }, true), given(v), answer),
    DecryptText: (v, options = {}) => call(text, decrypt(options), given(v), answer),
    SignText: (v, options = {}) => call(text, sign({ ...options, armor: true }, true), given(v), answer),
    VerifyText: (v, signature, options = {}) => call(nothing, verify(options), given(v), given(signature)),
  };
})

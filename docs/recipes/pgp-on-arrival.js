// What a partner sends into /in as a message of PGP appears opened, without `.pgp`: the partner has signed it, and
// nobody has changed it on the way. What is put into /vault appears as a message for its keeper alone. The upload
// itself appears nowhere, and what cannot be opened or closed is refused.
const partner = 'A9167095A641AA92FB2AA493442A836F61A3D95C', keeper = '85ACE7DDC7DC43AD213E57299472AE6F0FE8AD12';
const path = CtxRelPath(), isMessage = ExtractExt(path) === '.pgp';

let made = null;
if (path.startsWith('/in/') && isMessage) {
  made = PGP.DecryptFile(path, path.slice(0, -4), { signers: [partner], key: keeper });
} else if (path.startsWith('/vault/') && !isMessage) {
  made = PGP.EncryptFile(path, path + '.pgp', { recipients: [keeper] });
}
if (made !== null && made.Ok()) {
  const gone = GetCurrentVFS().Remove(path);
  if (!gone.Ok()) throw new Error(gone.ErrorMsg());
} else if (made !== null) {
  Session.BlockOperation('it is not taken: ' + made.ErrorMsg());
}

// Who does not come from the office gives a one-time code too (RFC 6238), whose secret is kept on the
// server. Bound to OnAuthInteractiveSetQuestions; who comes from outside with a password alone is
// refused when the same file is bound to OnAuthPassword and OnAuthPKI.
const inside = CtxRemoteAddress().startsWith('10.');

function fromBase32(text) {
  const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567', bytes = [];
  let bits = 0, held = 0;
  for (const letter of text.toUpperCase().replace(/[= ]/g, '')) {
    const value = letters.indexOf(letter);
    if (value < 0) throw new Error('the secret is no base32');
    held = (held << 5 | value) & 0xfff;
    bits += 5;
    if (bits >= 8) { bits -= 8; bytes.push(held >> bits & 0xff); }
  }
  return new Uint8Array(bytes);
}

function code(secret, milliseconds) {
  const step = Math.floor(milliseconds / 30000), counter = new Uint8Array(8);
  for (let i = 7, rest = step; i >= 0; i--, rest = Math.floor(rest / 256)) counter[i] = rest % 256;
  const mac = HexDecode(Hmac('sha1', secret, counter)), at = mac[19] & 15;
  const number = (mac[at] & 127) * 2 ** 24 + mac[at + 1] * 2 ** 16 + mac[at + 2] * 2 ** 8 + mac[at + 3];
  return String(number % 1000000).padStart(6, '0');
}

if (CtxEvent() !== 'OnAuthInteractiveSetQuestions') {
  if (!inside) Session.BlockOperation('from here, log in with keyboard-interactive');
} else {
  Session.AddQuestionPassword(0, 'Password: ');
  if (!inside) {
    const secret = fromBase32(GetSecret('totp_' + Session.GetRequestedUser()));
    Session.AddQuestion(1, 'Code: ', code(secret, Date.now()), true);
  }
}

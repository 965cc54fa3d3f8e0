// Tests of the recipes: `ferryd hooks test docs/recipes/recipes.test.js`.

test('programs do not come in', () => {
  const at = path => run('block-by-extension.js', { event: 'BeforeFileUpload', path }).blocked;
  equal(at('/in/setup.EXE'), 'files of type .exe are not accepted here');
  equal(at('/in/setup.exe.txt'), null);
  equal(at('/exe'), null);
});

test('an upload is scanned before anybody sees it', () => {
  const scan = exec => run('scan-before-publish.js', {
    event: 'BeforeCommit', path: '/f', files: { '/f': 'content' }, exec: [exec],
  });
  const clean = scan({ ExitCode: 0 });
  equal([clean.blocked, clean.error], [null, null]);
  equal(clean.asked[0].arguments, ['--no-summary', '-']);
  equal(clean.asked[0].input, 'content');
  equal(scan({ ExitCode: 1, Stdout: 'stdin: Eicar FOUND' }).blocked, 'the file is infected');
  assert(scan({ ExitCode: 2, Stderr: 'no database' }).error.includes('no database'));
  assert(scan({ ExitCode: null, TimedOut: true }).error !== null);
});

test('outside, a code is asked for', () => {
  const asked = (address, event) => run('second-factor-outside.js', {
    event, address, user: null, requestedUser: 'alice', secrets: { totp_alice: 'GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ' },
  });
  const questions = address => asked(address, 'OnAuthInteractiveSetQuestions').questions;
  equal(questions('10.0.0.1'), [[0, 'Password: ', 'password']]);
  const [password, code] = questions('192.0.2.1');
  equal(password[2], 'password');
  assert(/^\d{6}$/.test(code[2]), code[2]);
  assert(asked('192.0.2.1', 'OnAuthPassword').blocked !== null);
  equal(asked('10.0.0.1', 'OnAuthPassword').blocked, null);
});

test('a partner is told, with a signature', () => {
  const told = run('notify-partner.mjs', {
    event: 'AfterFileUpload', path: '/in/a', size: 3, secrets: { partner: 'key' }, fetch: [{ status: 204 }],
  });
  equal(told.error, null);
  const [request] = told.asked;
  equal(request.body, '{"path":"/in/a","size":3,"user":"alice"}');
  equal(request.headers[1], ['x-signature', 'sha256=' + Hmac('sha256', 'key', request.body)]);
  const failed = run('notify-partner.mjs', {
    event: 'AfterFileUpload', path: '/in/a', secrets: { partner: 'key' }, fetch: [{ status: 500 }],
  });
  assert(failed.error.includes('the partner answered 500'));
  assert(!JSON.stringify(failed).includes('"key"'));
});

test('the twenty-first download of an hour is one too many', () => {
  const one = user => run('leech-guard.js', { event: 'BeforeFileDownload', path: '/f', user }).blocked;
  for (let i = 0; i < 20; i++) equal(one('bob'), null);
  equal(one('bob'), 'no more than 20 downloads an hour');
  equal(one('eve'), null);
});

test('what arrives gets the time before its name', () => {
  const at = path => run('rename-on-arrival.js', { event: 'BeforeFileUpload', path }).redirected;
  assert(/^\/in\/\d{8}T\d{6}-report\.csv$/.test(at('/in/report.csv')), at('/in/report.csv'));
  equal(at('/other/report.csv'), null);
  equal(at('/in/deep/report.csv'), null);
});

test('archives of strangers go to quarantine', () => {
  const at = (path, groups) => run('quarantine.js', { event: 'BeforeFileUpload', path, groups }).redirected;
  assert(/^\/quarantine\/alice-[0-9a-f]{8}-a\.ZIP$/.test(at('/in/a.ZIP', [])));
  equal(at('/in/a.zip', ['staff']), null);
  equal(at('/in/a.txt', []), null);
});

test('accounts with hours work then', () => {
  const at = hours => run('working-hours.js', { event: 'OnAuthSuccess', custom: hours ? { hours } : {} }).terminated;
  equal(at(null), null);
  equal(at('0-24'), null);
  equal(at('0-0'), 'outside working hours');
});

test('a first login finds the template in its home', () => {
  const places = { '/srv/homes': { '/old/kept': 'mine' }, '/srv/template': { '/in/': '', '/out/read me': 'hello' } };
  const first = run('template-home.js', { event: 'OnAuthSuccess', user: 'new', places });
  equal(first.error, null);
  const homes = first.places['/srv/homes'];
  equal([homes['/new/out/read me'], '/new/in/' in homes, homes['/old/kept']], ['hello', true, 'mine']);
  equal(Object.keys(homes).filter(name => name.startsWith('/.')), []);
  const again = run('template-home.js', { event: 'OnAuthSuccess', user: 'old', places });
  equal(Object.keys(again.places['/srv/homes']), ['/old/', '/old/kept']);
});

test('what arrives is mirrored on another server', () => {
  const url = 'sftp://mirror@backup.example/', secrets = { mirror: '{"private_key":"k","hostKeySHA256":"SHA256:x"}' };
  const told = run('mirror.js', {
    event: 'AfterFileUpload', path: '/out/deep/f', files: { '/out/deep/f': 'content' }, secrets, places: { [url]: {} },
  });
  equal([told.error, told.places[url]['/out/deep/f']], [null, 'content']);
  equal([told.asked[0].key, told.asked[0].hostKeys], ['k', ['SHA256:x']]);
  const other = run('mirror.js', { event: 'AfterFileUpload', path: '/in/f', secrets, places: { [url]: {} } });
  equal([other.error, other.asked], [null, []]);
  assert(run('mirror.js', { event: 'AfterFileUpload', path: '/out/f', secrets }).error !== null);
});

test('what lies below /out is mirrored in a bucket', () => {
  const files = { '/out/deep/f': 'content', '/out/deep/er/g': 'more', '/in/f': 'other' };
  const secrets = { bucket: '{"api_key_id":"id","api_key_secret":"hunter2"}' };
  const mirror = (event, path, target, there = {}) => {
    const told = run('mirror-s3.js', { event, path, target, files, secrets, places: { 's3://backup': there } });
    equal([told.error, JSON.stringify(told.log).includes('hunter2')], [null, false]);
    return [told.places['s3://backup'], told.asked];
  };
  const names = ([place]) => Object.keys(place).filter(name => !name.endsWith('/'));
  const [place, asked] = mirror('AfterFileUpload', '/out/deep/f');
  equal([place['/out/deep/f'], asked[0].user, asked[0].pass, asked[0].region], ['content', 'id', 'hunter2', 'eu-central-1']);
  equal(mirror('AfterFileUpload', '/in/f')[1], []);
  equal(names(mirror('AfterFileRename', '/out/old', '/out/deep', { '/out/old/f': 'content', '/out/kept': '' })),
    ['/out/deep/er/g', '/out/deep/f', '/out/kept']);
  equal(names(mirror('AfterFileRename', '/out/f', '/in/f', { '/out/f': '' })), []);
  equal(names(mirror('AfterFileRename', '/in/x', '/out/deep/f')), ['/out/deep/f']);
  equal(names(mirror('AfterFileDelete', '/out/f', undefined, { '/out/f': '', '/out/g': '' })), ['/out/g']);
  equal(names(mirror('AfterFileDelete', '/out/never')), []);
  assert(run('mirror-s3.js', { event: 'AfterFileDelete', path: '/out/f', secrets }).error !== null);
});

test('messages are opened and made on arrival, and what is not good is refused', () => {
  const put = (path, pgp) => run('pgp-on-arrival.js', { event: 'BeforeCommit', path, files: { [path]: 'content' }, pgp });
  const opened = put('/in/a.csv.pgp', [{ content: 'plain' }]);
  equal([opened.error, opened.blocked], [null, null]);
  equal([opened.files['/in/a.csv'], '/in/a.csv.pgp' in opened.files], ['plain', false]);
  equal([opened.asked[0].what, opened.asked[0].signers.length, opened.asked[0].input], ['decrypt', 1, 'content']);
  const refused = put('/in/a.csv.pgp', [{ error: 'it was changed' }]);
  equal([refused.blocked, '/in/a.csv' in refused.files], ['it is not taken: it was changed', false]);
  const closed = put('/vault/f', [{ content: 'message' }]);
  equal([closed.files['/vault/f.pgp'], '/vault/f' in closed.files], ['message', false]);
  equal(put('/vault/f.pgp', []).asked, []);
  equal(put('/other', []).asked, []);
});

test('a session that has uploaded ends with a mail', () => {
  const noted = run('mail-uploads.js', { event: 'AfterFileUpload', path: '/in/a' });
  equal([noted.customData, noted.asked], [['/in/a'], []]);
  const [mail] = run('mail-uploads.js', { event: 'OnConnectionClose', customData: ['/in/a', '/in/b'] }).asked;
  equal([mail.function, mail.to, mail.subject, mail.body], ['mail', ['incoming@example.com'], 'Uploaded by alice', '/in/a\n/in/b']);
  equal(run('mail-uploads.js', { event: 'OnConnectionClose' }).asked, []);
});

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

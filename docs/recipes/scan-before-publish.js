// Nobody sees an upload before a scanner has. A refusal, a scanner that fails or one that takes too long
// leaves the old content where it was.
const scan = Exec('clamscan', ['--no-summary', '-'], { inputFile: CtxRelPath() });

if (scan.ExitCode === 1) {
  Log('infected:', CtxRelPath(), scan.Stdout);
  Session.BlockOperation('the file is infected');
} else if (scan.ExitCode !== 0) {
  throw new Error('the scanner failed: ' + scan.Stderr);
}

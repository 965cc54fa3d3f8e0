// Every upload into /in gets the time before its name, so that none replaces another.
const [, folder, name] = /^(.*\/)([^/]*)$/.exec(CtxRelPath());
if (folder === '/in/') {
  const time = new Date().toISOString().replace(/[-:]/g, '').replace(/\..*/, '');
  Session.RedirectTo(folder + time + '-' + name);
}

// Programs do not come in, whatever their case.
const refused = ['.exe', '.bat', '.cmd', '.com', '.scr', '.js', '.vbs'];

const extension = ExtractExt(CtxRelPath()).toLowerCase();
if (refused.includes(extension)) Session.BlockOperation('files of type ' + extension + ' are not accepted here');

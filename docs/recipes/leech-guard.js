// Twenty downloads an hour for each account, over all of its sessions and protocols. What was interrupted
// counts: it was asked for.
const most = 20, hour = 3600;

const n = Store.Increment('downloads/' + Session.GetUserID(), 1, hour);
if (n > most) Session.BlockOperation('no more than ' + most + ' downloads an hour');

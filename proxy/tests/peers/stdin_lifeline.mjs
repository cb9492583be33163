// Ends this process when its standard input closes, so that a test that dies never leaves a peer behind.
// Never reads what is written to it.

process.stdin.resume();
for (const event of ['end', 'close', 'error']) process.stdin.once(event, () => process.exit(0));

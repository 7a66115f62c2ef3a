// Package torture holds no code of Hookline: its test kills daemons and their
// children, breaks targets and connections to the database, and then asks the
// journal and the target whether every promise was kept.
//
// It runs for a few seconds by default. HOOKLINE_TORTURE=2h go test makes it run
// for longer, HOOKLINE_TORTURE_SEED=N repeats the choices of an earlier run (not
// their timing), and HOOKLINE_TORTURE_KEEP=1 keeps the folder and the tables.
package torture

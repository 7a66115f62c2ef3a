package app_test

import (
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestAlertDiskLow(t *testing.T) {
	o := newOps(t)
	low := strings.Replace(named, "node =", "min_free = 1125899906842624\nnode =", 1) // 1 PiB
	toml := preamble + low + o.section("") + route("ehr", newTarget(t, nil).url, "", "")
	alerted(t, toml)
	o.await(t, "disk_low journal.min_free raised")
	o.exactly(t, "disk_low journal.min_free raised")
}

// A process that ends again and again.
func TestAlertChild(t *testing.T) {
	o := newOps(t)
	d := alerted(t, preamble+named+o.section("")+route("ehr", newTarget(t, nil).url, "", ""))
	raised := func() bool { short, _ := d.list(); return len(short) == 1 && short[0] == "child transport ehr" }
	for killed := 0; !raised(); {
		if pid := childOf(t, os.Getpid(), "child transport http ehr"); pid != 0 && pid != killed {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			killed = pid
		}
	}
	m := o.await(t, "child transport ehr raised")
	contains(t, "the text", m.Text, "transport ehr", "hookline check")
	o.await(t, "child transport ehr cleared")
	o.exactly(t, "child transport ehr raised", "child transport ehr cleared")
}

package telemetry

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hookline/hookline/core"
)

// Sources are asked at a scrape. They must not wait for a reload. A nil one has
// nothing to tell.
type Sources struct {
	// Queue counts the open deliveries in the journal. It is asked seldom.
	Queue     func(ctx context.Context) ([]Depth, error)
	Routes    func() []string // names in force; others are counted together, as ""
	JournalUp func() bool
	DiskFree  func() (bytes int64, ok bool)
	InFlight  func() int
	Recalled  func() bool
	Circuits  func() map[string]string // by transport, as of [core.Gate.Circuit]
	Children  func() []Child
	// Quarantined are the names of the scripts that are not run any more.
	Quarantined func() []string
	// Certificates are the PEM files of those that the daemon shows.
	Certificates func() []string
}

// Depth is how many deliveries of a route are in an open state.
type Depth struct {
	Route  string
	State  core.State
	Count  int
	Oldest time.Duration
}

// Child is a child process as it stands.
type Child struct {
	Name     string // for example "transport ehr"
	PID      int    // 0: not running
	Restarts int
}

const (
	queueTimeout = 5 * time.Second
	// queueAge is how old a count of the queue may be, or so many times as long as
	// it took: a scrape must not cost the journal more than a twentieth of its time.
	queueAge   = 5 * time.Second
	queueShare = 20
	// certAge is how old a look at a certificate's file may be.
	certAge = time.Minute
	// sayAgain is how often the same trouble is logged.
	sayAgain = time.Minute
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	depthDesc    = desc("hookline_queue_depth", "Open deliveries in the journal. The route is empty for those whose route has left the configuration.", "route", "state")
	oldestDesc   = desc("hookline_queue_oldest_seconds", "Age of the oldest open delivery of a route, 0 if there is none.", "route")
	upDesc       = desc("hookline_journal_up", "1 if the journal can be written.")
	diskDesc     = desc("hookline_disk_free_bytes", "What may still be written on the disk of the journal's file.")
	flightDesc   = desc("hookline_in_flight", "Events whose callers wait.")
	recalledDesc = desc("hookline_config_recalled", "1 while the daemon runs on the configuration accepted last, as the files cannot be used.")
	circuitDesc  = desc("hookline_circuit_state", "The transport's circuit: 0 closed, 1 half open, 2 open.", "transport")
	restartsDesc = desc("hookline_child_restarts_total", "How often a child process was started again.", "child")
	memoryDesc   = desc("hookline_child_memory_bytes", "Resident memory of a child process.", "child")
	cpuDesc      = desc("hookline_child_cpu_seconds_total", "CPU time of a child process, since it was started last.", "child")
	heldDesc     = desc("hookline_script_quarantined", "1 for each script that is not run any more, as it cost its process too often.", "script")
	expiryDesc   = desc("hookline_certificate_expiry_timestamp_seconds", "When a certificate that the daemon shows expires, the first of its chain.", "file")
)

// open are the states of hookline_queue_depth.
var open = []core.State{core.StateQueued, core.StateRunning, core.StateWaiting, core.StateUnknown, core.StateHeld}

// sources collects what is only looked at when somebody asks.
type sources struct {
	Sources
	log *slog.Logger

	mu     sync.Mutex // one look at a time
	queue  []Depth
	counts bool      // queue is known
	next   time.Time // look at the queue
	said   time.Time // that it cannot be counted
	expiry map[string]time.Time
	looked time.Time // at the certificates
}

func newSources(s Sources, log *slog.Logger) *sources { return &sources{Sources: s, log: log} }

// Describe implements [prometheus.Collector].
func (s *sources) Describe(c chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		depthDesc, oldestDesc, upDesc, diskDesc, flightDesc, recalledDesc, circuitDesc, restartsDesc, memoryDesc, cpuDesc, heldDesc, expiryDesc,
	} {
		c <- d
	}
}

// Collect implements [prometheus.Collector].
func (s *sources) Collect(c chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	if s.JournalUp != nil {
		gauge(upDesc, truth(s.JournalUp()))
	}
	if s.DiskFree != nil {
		if free, ok := s.DiskFree(); ok {
			gauge(diskDesc, float64(free))
		}
	}
	if s.InFlight != nil {
		gauge(flightDesc, float64(s.InFlight()))
	}
	if s.Recalled != nil {
		gauge(recalledDesc, truth(s.Recalled()))
	}
	if s.Circuits != nil {
		for name, state := range s.Circuits() {
			gauge(circuitDesc, map[string]float64{"half-open": 1, "open": 2}[state], name)
		}
	}
	if s.Children != nil {
		s.collectChildren(c, gauge)
	}
	if s.Quarantined != nil {
		for _, script := range s.Quarantined() {
			gauge(heldDesc, 1, script)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Queue != nil {
		s.collectQueue(gauge)
	}
	if s.Certificates != nil {
		s.collectCertificates(gauge)
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

type gaugeFunc = func(d *prometheus.Desc, v float64, labels ...string)

func (s *sources) collectChildren(c chan<- prometheus.Metric, gauge gaugeFunc) {
	for _, child := range s.Children() {
		c <- prometheus.MustNewConstMetric(restartsDesc, prometheus.CounterValue, float64(child.Restarts), child.Name)
		if child.PID == 0 {
			continue
		}
		if use, ok := useOf(child.PID); ok {
			gauge(memoryDesc, use.memory, child.Name)
			c <- prometheus.MustNewConstMetric(cpuDesc, prometheus.CounterValue, use.cpu, child.Name)
		}
	}
}

// use is what a process has of the machine.
type use struct {
	memory float64 // bytes
	cpu    float64 // seconds
}

// UseOf is the resident memory of a process in bytes, and its CPU time in seconds;
// false if the system does not tell.
func UseOf(pid int) (memory, cpu float64, known bool) {
	u, known := useOf(pid)
	return u.memory, u.cpu, known
}

// collectQueue tells nothing when the queue cannot be counted: a number of before
// would look like one of now.
func (s *sources) collectQueue(gauge gaugeFunc) {
	if begun := time.Now(); !begun.Before(s.next) {
		ctx, cancel := context.WithTimeout(context.Background(), queueTimeout)
		queue, err := s.Queue(ctx)
		cancel()
		s.queue, s.counts = queue, err == nil
		s.next = time.Now().Add(max(queueAge, queueShare*time.Since(begun)))
		if err != nil && time.Since(s.said) > sayAgain {
			s.said = time.Now()
			s.log.Warn("the queue cannot be counted: hookline_queue_depth is left out of the metrics", "error", err)
		}
	}
	if !s.counts {
		return
	}
	depth := map[string]map[core.State]int{"": {}}
	oldest := map[string]time.Duration{}
	for _, name := range s.Routes() {
		depth[name] = map[core.State]int{}
	}
	for _, d := range s.queue {
		name := d.Route
		if depth[name] == nil {
			name = ""
		}
		depth[name][d.State] += d.Count
		oldest[name] = max(oldest[name], d.Oldest)
	}
	for name, states := range depth {
		for _, state := range open {
			gauge(depthDesc, float64(states[state]), name, string(state))
		}
		gauge(oldestDesc, oldest[name].Seconds(), name)
	}
}

func (s *sources) collectCertificates(gauge gaugeFunc) {
	if time.Since(s.looked) > certAge {
		s.looked, s.expiry = time.Now(), map[string]time.Time{}
		for _, file := range s.Certificates() {
			if at, ok := expiryOf(file); ok {
				s.expiry[file] = at
			}
		}
	}
	for file, at := range s.expiry {
		gauge(expiryDesc, float64(at.Unix()), file)
	}
}

// expiryOf is when the first certificate of a PEM file's chain expires.
func expiryOf(file string) (at time.Time, ok bool) {
	data, err := os.ReadFile(file)
	if err != nil {
		return at, false
	}
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return at, ok
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil && (!ok || cert.NotAfter.Before(at)) {
			at, ok = cert.NotAfter, true
		}
	}
}

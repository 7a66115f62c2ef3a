package transforms

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hookline/hookline/plugins/host"
	pb "github.com/hookline/hookline/transforms/transformpb"
)

// given is what a script has beside its source: the lookup tables and the secrets
// of its route. It is part of a script's id, so it never changes under one.
type given struct {
	tables  map[string]*table // by file name
	secrets map[string]string
	redact  host.Redactor // of what the script says
	answers *pb.Answers   // in the place of the host's; nil: ask it
}

// fileID tells provided files apart: one content may be there under two names, of
// which the extension says how to read it.
func fileID(digest, name string) string { return digest + "/" + name }

// Provide takes a lookup file.
func (s *server) Provide(_ context.Context, req *pb.ProvideRequest) (out *pb.ProvideResponse, err error) {
	defer notPanic(&err)
	t, err := newTable(req.GetName(), req.GetContent())
	if err != nil { // the host has checked it
		return nil, status.Error(codes.InvalidArgument, req.GetName()+err.Error())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.provided[fileID(req.GetDigest(), req.GetName())] = t
	return &pb.ProvideResponse{}, nil
}

// Withdraw forgets a lookup file.
func (s *server) Withdraw(_ context.Context, req *pb.WithdrawRequest) (*pb.WithdrawResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.provided, fileID(req.GetDigest(), req.GetName()))
	return &pb.WithdrawResponse{}, nil
}

// given is what a script is loaded with.
func (s *server) given(req *pb.LoadRequest) (*given, error) {
	g := &given{tables: make(map[string]*table, len(req.GetLookups())), secrets: req.GetSecrets(), answers: req.GetAnswers()}
	if len(g.secrets) > 0 {
		g.redact.Hide(slices.Collect(maps.Values(g.secrets))...)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for name, digest := range req.GetLookups() {
		if g.tables[name] = s.provided[fileID(digest, name)]; g.tables[name] == nil {
			return nil, status.Error(codes.FailedPrecondition, "lookup file "+name+" was not provided")
		}
	}
	return g, nil
}

// givenID is the part of a script's id that says what it is given. Of secrets it
// shows nothing that could be compared with a guess: the key is the engine's own,
// and new at each start.
func (e *Engine) givenID(s Script) string {
	tables, secrets := s.Tables, s.Secrets
	if len(tables.Digests()) == 0 && len(secrets) == 0 && s.TrialKit == nil {
		return ""
	}
	mac := hmac.New(sha256.New, e.idKey)
	if s.TrialKit != nil {
		for _, path := range slices.Sorted(maps.Keys(s.TrialKit)) {
			fmt.Fprintf(mac, "%q %q\n", path, s.TrialKit[path])
		}
		fmt.Fprintln(mac, "answered")
	}
	for _, part := range []map[string]string{tables.Digests(), secrets} {
		for _, name := range slices.Sorted(maps.Keys(part)) {
			fmt.Fprintf(mac, "%q %q\n", name, part[name])
		}
		fmt.Fprintln(mac)
	}
	return hex.EncodeToString(mac.Sum(nil)[:16]) + "/"
}

// tableFile is a lookup file that at least one loaded script has.
type tableFile struct {
	req  *pb.ProvideRequest
	uses int
}

// keepGiven has the files of a script kept for new processes, and its secrets out
// of the log. The caller holds mu.
func (e *Engine) keepGiven(req *pb.LoadRequest, tables *Tables) {
	for name, digest := range req.GetLookups() {
		id := fileID(digest, name)
		f := e.files[id]
		if f == nil {
			f = &tableFile{req: &pb.ProvideRequest{Digest: digest, Name: name, Content: tables.Files()[name]}}
			e.files[id] = f
		}
		f.uses++
	}
	e.hideSecrets()
}

// releaseGiven undoes keepGiven and returns the files that nothing has any more.
// The caller holds mu.
func (e *Engine) releaseGiven(req *pb.LoadRequest) (unused []*pb.WithdrawRequest) {
	for name, digest := range req.GetLookups() {
		id := fileID(digest, name)
		if f := e.files[id]; f != nil {
			if f.uses--; f.uses == 0 {
				delete(e.files, id)
				delete(e.has, id)
				unused = append(unused, &pb.WithdrawRequest{Digest: digest, Name: name})
			}
		}
	}
	e.hideSecrets()
	return unused
}

// hideSecrets keeps the secrets of all scripts out of what the process writes.
func (e *Engine) hideSecrets() {
	var secrets []string
	for _, l := range e.scripts {
		secrets = slices.AppendSeq(secrets, maps.Values(l.req.GetSecrets()))
	}
	e.redact.Hide(secrets...)
}

// provide hands a process the files of a script that it has not got yet.
func (e *Engine) provide(ctx context.Context, client pb.TransformServiceClient, req *pb.LoadRequest) error {
	e.mu.Lock()
	if e.hasOf != client {
		e.hasOf, e.has = client, map[string]bool{}
	}
	files := map[string]*pb.ProvideRequest{}
	for name, digest := range req.GetLookups() {
		id := fileID(digest, name)
		if f := e.files[id]; f != nil && !e.has[id] {
			files[id] = f.req
		}
	}
	e.mu.Unlock()
	for id, f := range files {
		if _, err := client.Provide(ctx, f); err != nil {
			return err // of gRPC: its code says whether the process is lost
		}
		e.mu.Lock()
		if e.hasOf == client && e.files[id] != nil {
			e.has[id] = true
		}
		e.mu.Unlock()
	}
	return nil
}

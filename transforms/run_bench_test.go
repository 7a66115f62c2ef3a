package transforms

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	pb "github.com/hookline/hookline/transforms/transformpb"
)

// What a small script costs per event, all that is done for it included. The
// script and the event are those of cmd/bench.
func BenchmarkRename(b *testing.B) {
	path := filepath.Join(b.TempDir(), "rename.js")
	const script = `export default function (event, ctx) {
  return {
    record: event.trans_id,
    form: { id: event.form_id, name: event.form_name },
    change: ctx.kind,
  };
}
`
	if err := os.WriteFile(path, []byte(script), 0o600); err != nil {
		b.Fatal(err)
	}
	local, err := NewLocal(Script{Name: "rename.js", Path: path}, 1)
	if err != nil {
		b.Fatal(err)
	}
	defer local.Close()
	body := []byte(`{"trans_id":"000000000435","form_id":"319","form_name":"Sample Form","OnInsert":true}`)
	b.ReportAllocs()
	for b.Loop() {
		out := local.Run(&pb.RunRequest{
			Body: body, Kind: "insert", Hook: "bench", Study: "ABC-123", Stage: "uat", Route: "bench",
			EventId: "0190b4f4-0000-7000-8000-0000000000ee", DeliveryId: "0190b4f4-0000-7000-8000-000000000001",
			Ref: "K7QF2M9X", ReceivedAt: time.Now().UnixNano(),
		})
		if len(out.GetMessages()) != 1 {
			b.Fatal(out)
		}
	}
}

package transforms

import "testing"

func BenchmarkDecode(b *testing.B) {
	s := testSandbox(b)
	b.ReportAllocs()
	b.SetBytes(int64(len(benchBody)))
	for b.Loop() {
		if _, err := s.decode([]byte(benchBody), false); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	s := testSandbox(b)
	v, err := s.decode([]byte(benchBody), false)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(benchBody)))
	for b.Loop() {
		if _, ok, err := s.json(v, maxOutput); err != nil || !ok {
			b.Fatal(ok, err)
		}
	}
}

package credential

import "testing"

func TestMemoryIsBoundedAndKeyed(t *testing.T) {
	m, other := NewMemory(), NewMemory()
	if again := m.Mark("a", "b", "c"); again != m.Mark("a", "b", "c") || m.Mark("a", "b", "c") == other.Mark("a", "b", "c") ||
		m.Mark("ab", "c", "") == m.Mark("a", "bc", "") {
		t.Error("the marks are not keyed by the memory and all of the credentials")
	}
	for i := range 3 * maxMarks {
		m.add(Mark{byte(i), byte(i >> 8)})
		if len(m.marks) > maxMarks {
			t.Fatalf("%d marks", len(m.marks))
		}
	}
}

func TestParseBasic(t *testing.T) {
	for in, want := range map[string][2]string{
		"Basic dXNlcjpwYXNz":     {"user", "pass"},
		"basic dXNlcjpwOmFzcw":   {"user", "p:ass"},     // no padding
		"BASIC  dXNlcjo= ":       {"user", ""},          // spaces
		"Basic dXNlcjpw/Gdl":     {"user", "p\u00fcge"}, // Latin-1, as .NET sends it
		"Basic dXNlcjpww7xnZQ==": {"user", "p\u00fcge"},
	} {
		if u, p, ok := ParseBasic(in); !ok || u != want[0] || p != want[1] {
			t.Errorf("%q: %q %q %v", in, u, p, ok)
		}
	}
	for _, in := range []string{"", "Basic", "Basic ", "Basic dXNlcg==", "Basic !", "Bearer dXNlcjpwYXNz", "BasicdXNlcjpwYXNz"} {
		if u, p, ok := ParseBasic(in); ok {
			t.Errorf("%q: %q %q", in, u, p)
		}
	}
}

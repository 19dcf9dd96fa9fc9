// The tests talk to the server as its users do, over connections to 127.0.0.1. They know nothing of
// the code: put another main.go in place of this one, and they judge that.
//
//	go test .                                 all tests; -short leaves out the one that takes 30 s
//	go test -run TestConversations/group .    the conversations with "group" in their names
//	go test -run TestAssignment .             grade this server; for other servers, see TESTING.md
//
// Most tests are conversations. A conversation is a list of rows; each says what one client does:
//
//	alice in                      logs in; everybody who is in must hear of it
//	x opens                       connects, and does not log in
//	alice > /users                types a line
//	alice < Goodbye! | END        hears these lines next: first the goodbye, then the end of the connection
//	alice > /quit -> Goodbye!     types and hears; "->" may follow every verb
//	x >> /us                      sends these bytes, without a newline
//	alice has hello | bye|ciao    has heard, or will hear, what matches these regular expressions
//	alice lacks hello             has not heard it, and does not hear it within 250 ms
//	x pauses 20ms                 does nothing for so long
//	x half-closes                 sends no more, but listens
//	x deaf                        reads no more, but stays
//	x gone                        closes the connection
//	x resets                      breaks the connection
//
// A row may name several clients: "alice,bob in" or "1..50 in". The number 7 stands for user u7 with
// the password p7; the other users are in testPasswords. "a > x & b > y" are two rows without a wait
// between them. Rows end with the line or with "; ". In what is sent or heard, \n, \x1b and \u2028 mean
// what they mean in Go. A prompt ("Enter username:") counts as a line.
//
// A client must hear the lines of its rows, in order, and no others. How can a test see that nothing
// else comes? At the end, everybody who is in writes to himself, and must hear that next. This is a
// fence: whatever was sent before would come before it.
//
// Each conversation in TestConversations has a server of its own. It is played by clients that end
// what they type with a newline ("lines"), and by clients that do not ("raw"), like the course's.
//
// To test a new command, add a conversation to TestConversations, and the command to everyCommand.
package main

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// testPasswords are the users of the server under test. TestMain adds u1:p1 to u300:p300.
var testPasswords = map[string]string{
	"alice": "password123", "bob": "qwerty456", "charlie": "secure789", "david": "a:b c:"}

// everyCommand is typed by many clients at once in TestCrowd. With -race, this finds a command that
// uses shared data without the lock.
const everyCommand = `/msg u1 hello
/broadcast hello
/create_group a
/join_group a
/group_msg a hello
/groups_users
/leave_group a
/users
/help
`

// ---- Starting programs --------------------------------------------------------------------------

// A process is a program that a test has started.
type process struct {
	*exec.Cmd
	address chan string   // the first address that it prints
	ended   chan struct{} // closed when it has ended
	output  []byte        // the last part of what it has printed; read it only when it has ended
}

// launched are all processes, so that they can be killed when the tests are broken off.
var launched struct {
	sync.Mutex
	list []*process
}

// launch starts a program. It is killed, with its children, at the end of the test. If the test has
// failed by then, the last lines of the program are shown.
func launch(t testing.TB, cmd *exec.Cmd) *process {
	p := &process{Cmd: cmd, address: make(chan string, 1), ended: make(chan struct{})}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a group of processes, with its children
	pipe, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = cmd.Stderr
	cmd.StdinPipe() // it stays open: some servers end when their input ends
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	launched.Lock()
	launched.list = append(launched.list, p)
	launched.Unlock()
	go p.collect(pipe)
	t.Cleanup(func() {
		p.kill()
		if !p.endsWithin(2 * time.Second) {
			t.Errorf("%s has left a process behind that still holds its output", cmd.Path)
		} else if t.Failed() {
			lines := bytes.Split(bytes.TrimSpace(p.output), []byte("\n"))
			lines = lines[max(0, len(lines)-20):]
			t.Logf("the server (%v) has printed\n    %s", p.ProcessState, bytes.Join(lines, []byte("\n    ")))
		}
	})
	return p
}

// collect reads what the program prints, and waits for its end.
func (p *process) collect(pipe io.Reader) {
	address := regexp.MustCompile(`127\.0\.0\.1:\d+`)
	lines := bufio.NewReader(pipe)
	for {
		line, err := lines.ReadString('\n')
		p.output = append(p.output, line...)
		if len(p.output) > 1<<20 {
			p.output = slices.Clone(p.output[1<<19:])
		}
		select {
		case p.address <- address.FindString(line):
		default: // it has printed its first line already
		}
		if err != nil {
			break
		}
	}
	p.Wait()
	close(p.ended)
}

func (p *process) kill() { syscall.Kill(-p.Process.Pid, syscall.SIGKILL) }

// endsWithin reports whether the program ends within a time.
func (p *process) endsWithin(limit time.Duration) bool {
	select {
	case <-p.ended:
		return true
	case <-time.After(limit):
		return false
	}
}

// interrupt does what Ctrl-C does. The server must end by itself, with the exit status 0. (After a
// data race, the race detector makes it 66.) It returns what the server has printed.
func (p *process) interrupt(t testing.TB) string {
	p.Process.Signal(os.Interrupt)
	if !p.endsWithin(5 * time.Second) {
		t.Errorf("the server has not ended 5 s after Ctrl-C")
		return ""
	}
	if !p.ProcessState.Success() {
		t.Errorf("the server has ended with %v", p.ProcessState)
	}
	return string(p.output)
}

// serverCommand returns the command that runs the server in a new folder. It is this program, started
// again: TestMain then calls main. wrapper is a shell command that runs it, usually "".
func serverCommand(t testing.TB, wrapper, usersFile, address string) *exec.Cmd {
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", wrapper+` exec "$0" "$1"`, path, address)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "CHAT_TEST_SERVER=1", "GORACE=atexit_sleep_ms=0")
	if err := os.WriteFile(cmd.Dir+"/users.txt", []byte(usersFile), 0o600); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// startServer starts a server, which must survive the test and then end well. No test knows more of it
// than its address, what it prints, and its folder.
func startServer(t testing.TB, wrapper string) (p *process, address string) {
	file := ""
	for name, password := range testPasswords {
		file += name + ":" + password + "\n"
	}
	p = launch(t, serverCommand(t, wrapper, file, "127.0.0.1:0"))
	select {
	case address = <-p.address:
	case <-time.After(20 * time.Second):
	}
	if address == "" {
		t.Fatal("the server's first line has no address")
	}
	t.Cleanup(func() { p.interrupt(t) })
	return p, address
}

// TestMain runs the tests, many at a time, because they mostly wait. Or it runs the server.
func TestMain(m *testing.M) {
	if os.Getenv("CHAT_TEST_SERVER") != "" {
		main()
		os.Exit(0)
	}
	for i := 1; i <= 300; i++ {
		testPasswords[fmt.Sprint("u", i)] = fmt.Sprint("p", i)
	}
	flag.Set("test.parallel", "32") // -parallel on the command line comes later and wins
	flag.Parse()
	broken := make(chan os.Signal, 1)
	signal.Notify(broken, os.Interrupt, syscall.SIGTERM)
	timeout := flag.Lookup("test.timeout").Value.(flag.Getter).Get().(time.Duration)
	if timeout > 0 {
		time.AfterFunc(timeout-2*time.Second, func() { broken <- syscall.SIGALRM })
	}
	go func() { // ends with the program
		fmt.Println("broken off:", <-broken)
		launched.Lock()
		for _, p := range launched.list {
			p.kill()
		}
		os.Exit(1)
	}()
	os.Exit(m.Run())
}

// ---- Playing conversations ----------------------------------------------------------------------

// playAll plays conversations (name and rows), each with a server of its own, with each kind of client.
func playAll(t *testing.T, kinds []string, table [][2]string) {
	for _, row := range table {
		for _, kind := range kinds {
			t.Run(row[0]+"/"+kind, func(t *testing.T) {
				t.Parallel()
				_, address := startServer(t, "")
				converse(t, address, kind, row[1])
			})
		}
	}
}

// converse plays one conversation with a server, and the fence. It returns the conversation, so that a
// test can go on with it.
func converse(t testing.TB, address, kind, rows string) *conversation {
	c := newConversation(t, address, kind)
	c.play(rows)
	for _, p := range c.peers {
		if p.user != "" {
			c.play(fmt.Sprintf("%s > /msg %[2]s fence -> [%[2]s]: fence | Message sent to %[2]s.", p.name, p.user))
		}
	}
	return c
}

// A conversation is what is being played.
type conversation struct {
	testing.TB
	address string
	kind    string           // of the clients: "lines", "raw", or "graded" (raw, and with pauses; see pause)
	peers   map[string]*peer // the clients, by their names in the rows
	rows    string           // all that are played
	row     string           // the one that is played now
	before  string           // the clients of the row before
	late    time.Time        // when all must be over
	news    chan struct{}    // somebody has heard something

	mu    sync.Mutex // guards the story, and what the goroutine listen changes in the peers
	story []string   // the last things said and heard
}

// A peer is a client in a conversation.
type peer struct {
	*conversation
	name  string
	user  string // who has logged in by the verb "in", and must hear the notices and the fence
	conn  *net.TCPConn
	heard []byte    // everything
	next  int       // heard[next:] is what no row has mentioned yet
	ended string    // how the connection has ended: "END", or an error
	typed int       // lines
	until time.Time // so long a graded server may take to answer; zero if it has answered
}

func newConversation(t testing.TB, address, kind string) *conversation {
	return &conversation{TB: t, address: address, kind: kind, peers: map[string]*peer{},
		news: make(chan struct{}, 1), late: time.Now().Add(2 * time.Minute)}
}

// play plays rows.
func (c *conversation) play(rows string) {
	c.rows = rows
	for _, row := range regexp.MustCompile(`\n|; `).Split(rows, -1) {
		c.row = strings.Trim(row, "\t ")
		if c.row == "" {
			continue
		}
		for i, act := range strings.Split(c.row, " & ") {
			who, what, _ := strings.Cut(act, " ")
			if c.kind == "graded" && i == 0 {
				c.pause(who)
			}
			for _, name := range c.names(who) {
				c.act(name, what)
			}
		}
	}
}

// names returns the names in "alice,bob" or "1..9".
func (c *conversation) names(who string) []string {
	var list []string
	for _, name := range strings.Split(who, ",") {
		if !strings.Contains(name, "..") {
			list = append(list, name)
			continue
		}
		var first, last int
		fmt.Sscanf(name, "%d..%d", &first, &last)
		if first < 1 || last < first || name != fmt.Sprintf("%d..%d", first, last) {
			c.fail("%q is no range", name)
		}
		for i := first; i <= last; i++ {
			list = append(list, strconv.Itoa(i))
		}
	}
	return list
}

// act plays a row for one client. A row that makes no sense fails.
func (c *conversation) act(name, what string) {
	if regexp.MustCompile(` (->|\||&)$`).MatchString(c.row) {
		c.fail("the row ends too early")
	}
	act, replies, replied := strings.Cut(what, " -> ")
	verb, text, _ := strings.Cut(act, " ")
	needsText := slices.Contains([]string{">", ">>", "<", "has", "lacks", "pauses"}, verb)
	if needsText && text == "" || !needsText && text != "" {
		c.fail("%q has a text too many or too few, or no such verb", what)
	}
	p := c.peers[name]
	if verb == "in" || verb == "opens" {
		if p != nil || name == "" {
			c.fail("%q is connected already, or is no name", name)
		}
	} else if p == nil {
		c.fail("%q is not connected", name)
	}
	switch verb {
	case "in":
		c.logIn(name)
		p = c.peers[name]
	case "opens":
		p = c.connect(name)
	case ">":
		p.typed++
		if c.kind == "lines" {
			text += `\n`
		}
		p.says(text)
	case ">>":
		p.says(text)
	case "<":
		p.hears(text)
	case "has", "lacks":
		p.searches(verb, text)
	case "pauses":
		duration, err := time.ParseDuration(text)
		if err != nil {
			c.fail("%v", err)
		}
		time.Sleep(duration)
	case "half-closes":
		p.user = ""
		p.conn.CloseWrite()
	case "deaf":
		p.user = ""
		p.conn.SetReadDeadline(time.Unix(1, 0)) // ends listen
		p.wait(time.Minute, func() bool { return p.ended != "" })
		p.conn.SetReadDeadline(time.Time{})
	case "gone":
		p.leaves()
	case "resets":
		p.conn.SetLinger(0)
		p.leaves()
	default:
		c.fail("there is no verb %q", verb)
	}
	if replied {
		p.hears(replies)
	}
}

// logIn plays the verb "in", which stands for other rows.
func (c *conversation) logIn(name string) {
	user := regexp.MustCompile(`^\d+$`).ReplaceAllString(name, "u$0")
	password := testPasswords[user]
	if password == "" {
		c.fail("%q is not a user", name)
	}
	if c.kind == "graded" { // a server may ask and answer in other words
		c.act(name, "opens")
		for _, text := range []string{user, password} {
			c.pause(name)
			c.act(name, "> "+text)
		}
		c.pause(name)
		return
	}
	c.act(name, "opens -> Enter username:")
	c.act(name, "> "+user+" -> Enter password:")
	c.act(name, "> "+password+" -> Welcome to the chat server!")
	for _, other := range c.peers {
		if other.user != "" {
			other.hears(user + " has joined the chat.")
		}
	}
	c.peers[name].user = user
}

// unescape returns the text that is meant by \n and \x1b.
func (c *conversation) unescape(text string) string {
	plain, err := strconv.Unquote(`"` + strings.ReplaceAll(text, `"`, `\"`) + `"`)
	if err != nil {
		c.fail("a bad escape in %.80q", text)
	}
	return plain
}

// fail ends the test and shows the row, its line in this file, and the conversation so far.
func (c *conversation) fail(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	where := ""
	file, _ := os.ReadFile("main_test.go")
	begin := bytes.Index(file, []byte(c.rows))
	if begin >= 0 {
		end := begin + strings.Index(c.rows, c.row)
		where = fmt.Sprintf("main_test.go:%d", 1+bytes.Count(file[:end], []byte("\n")))
	}
	c.Fatalf("%s\nrow: %.200s (%s)\nthe conversation so far:\n    %s",
		fmt.Sprintf(format, args...), c.row, where, strings.Join(c.story, "\n    "))
}

// wait waits until ok, which is called under the lock. It gives up when nobody has heard anything for a
// while, or when the conversation takes too long. All waiting in a conversation is here.
func (c *conversation) wait(while time.Duration, ok func() bool) bool {
	for quiet := false; ; {
		c.mu.Lock()
		done := ok()
		c.mu.Unlock()
		if done || quiet || time.Now().After(c.late) {
			return done
		}
		select {
		case <-c.news:
		case <-time.After(while):
			quiet = true
		}
	}
}

// connect returns a new client, which listens. A graded server may need a moment to start.
func (c *conversation) connect(name string) *peer {
	conn, err := net.Dial("tcp", c.address)
	for begin := time.Now(); err != nil && c.kind == "graded" && time.Since(begin) < 10*time.Second; {
		time.Sleep(10 * time.Millisecond)
		conn, err = net.Dial("tcp", c.address)
	}
	if err != nil {
		c.fail("%s cannot connect: %v", name, err)
	}
	p := &peer{conversation: c, name: name, conn: conn.(*net.TCPConn), until: time.Now().Add(loginTime)}
	p.conn.SetNoDelay(c.kind != "graded") // the client of the course lets TCP join its lines
	c.peers[name] = p
	c.Cleanup(func() {
		p.conn.SetLinger(0) // otherwise the server's port is blocked for a minute
		p.leaves()
	})
	go p.listen() // ends with the connection
	return p
}

// leaves closes the connection.
func (p *peer) leaves() {
	if p.kind == "graded" { // a row may still ask what it has heard
		if p.wait(0, func() bool { return p.ended != "" }) {
			p.conn.SetLinger(0) // the server has closed first; see connect
		}
	} else {
		delete(p.peers, p.name)
	}
	p.conn.Close()
}

// listen collects what the client hears, until the connection ends.
func (p *peer) listen() {
	piece := make([]byte, 4096)
	for ended := ""; ended == ""; {
		n, err := p.conn.Read(piece)
		if err == io.EOF {
			ended = "END"
		} else if err != nil {
			ended = err.Error()
		}
		p.mu.Lock()
		p.note("hears", string(piece[:n])+ended)
		p.heard = append(p.heard, piece[:n]...)
		if p.kind == "graded" { // the client of the course ends a line after each read
			p.heard = append(p.heard, '\n')
		}
		p.ended = ended
		p.until = time.Time{}
		p.mu.Unlock()
		if p.kind == "graded" && !*hurry {
			p.acknowledge()
		}
		select {
		case p.news <- struct{}{}:
		default: // the last news has not been noticed yet
		}
	}
}

// note adds to the story. The caller holds the lock.
func (p *peer) note(what, text string) {
	p.story = append(p.story, fmt.Sprintf("%-8s %s %.200q", p.name, what, text))
	p.story = p.story[max(0, len(p.story)-30):]
}

// says sends a text as it is.
func (p *peer) says(text string) {
	data := p.unescape(text)
	p.mu.Lock()
	p.note("says ", data)
	p.until = time.Now().Add(answerTime)
	if p.typed <= 2 {
		p.until = time.Now().Add(loginTime)
	}
	p.mu.Unlock()
	p.conn.SetWriteDeadline(p.late)
	if _, err := io.WriteString(p.conn, data); err != nil {
		p.fail("%s cannot say %.80q: %v", p.name, data, err)
	}
}

// aLine matches a line. A prompt counts as one, although it does not end with a newline.
var aLine = regexp.MustCompile(`^(?:(Enter \w+:) |(.*)\n)`)

// line returns the next line that the client hears, or how the connection has ended.
func (p *peer) line() (line string) {
	more := p.wait(20*time.Second, func() bool {
		rest := p.heard[p.next:]
		found := aLine.FindSubmatch(rest)
		if found != nil {
			p.next += len(found[0])
			line = string(found[1]) + string(found[2])
			return true
		}
		line = string(rest) + p.ended
		return p.ended != ""
	})
	if !more {
		p.fail("%s hears nothing more but %.200q", p.name, line)
	}
	return line
}

// hears waits for lines that are divided by " | ".
func (p *peer) hears(lines string) {
	for _, want := range strings.Split(lines, " | ") {
		if want == "" {
			p.fail("an empty line is wanted")
		}
		got := p.line()
		if got != p.unescape(want) {
			p.fail("%s hears %.300q\n%*swants %.300q", p.name, got, len(p.name), "", want)
		}
		if want == "END" {
			p.leaves()
		}
	}
}

// searches looks for regular expressions, divided by " | ", in all that the client has heard, in any case.
func (p *peer) searches(verb, patterns string) {
	while := 10 * time.Second
	if verb == "lacks" {
		while = answerTime
	} else if p.kind == "graded" {
		while = 2 * time.Second
	}
	for _, pattern := range strings.Split(patterns, " | ") {
		re, err := regexp.Compile("(?s)" + strings.ToLower(pattern))
		if err != nil || pattern == "" {
			p.fail("%q is no regular expression: %v", pattern, err)
		}
		found := p.wait(while, func() bool { return re.MatchString(strings.ToLower(string(p.heard) + p.ended)) })
		if found != (verb == "has") {
			p.fail("wanted: %s %s %s", p.name, verb, pattern)
		}
	}
}

// ---- Conversations ------------------------------------------------------------------------------

func TestConversations(t *testing.T) {
	t.Parallel()
	rep := strings.Repeat
	playAll(t, []string{"lines", "raw"}, [][2]string{
		{"message and broadcast", `
			alice,bob in
			alice > /msg bob hello, bob -> Message sent to bob.; bob < [alice]: hello, bob
			alice > /msg alice for me -> [alice]: for me | Message sent to alice.
			alice > /msg Bob hi -> Error: Bob is not online. To see who is: /users
			alice > \x20/MsG   bob   two  spaces,\ta tab \x20 -> Message sent to bob.; bob < [alice]: two  spaces,\ta tab
			alice > /msg bob x\x1b[2J\x07\r\x7f\u0085y £ü \xff -> Message sent to bob.
			bob < [alice]: x\ufffd[2J\ufffd\ufffd\ufffd\ufffdy £ü \ufffd
			alice > \x20 /USERS and more\x20 -> Online users: alice, bob
			alice > \x20\t\x20
			charlie in
			bob > /broadcast   hello  all -> Message sent to all.; alice,charlie < [bob][Broadcast]: hello  all`},
		{"group", `
			alice,bob,charlie in
			alice > /create_group cs -> Group cs created.
			alice > /create_group cs -> Error: group cs exists already. To join it: /join_group cs
			alice > /group_msg cs alone? -> Message sent to group cs.
			bob > /join_group cs -> You joined the group cs.; alice < bob has joined the group cs.
			bob > /join_group cs -> You joined the group cs.
			bob > /group_msg cs  hi  there -> Message sent to group cs.; alice < [bob][Group cs]: hi  there
			charlie > /group_msg cs hi -> Error: you are not a member of the group cs.
			charlie > /leave_group cs -> Error: you are not a member of the group cs.
			charlie > /join_group Cs -> Error: group Cs does not exist. To start it: /create_group Cs
			charlie > /join_group cs -> You joined the group cs.; alice,bob < charlie has joined the group cs.
			bob > /leave_group cs -> You left the group cs.; alice,charlie < bob has left the group cs.
			charlie > /group_msg cs bye -> Message sent to group cs.; alice < [charlie][Group cs]: bye`},
		{"lists, and the end of a group", `
			charlie,alice,bob in
			bob > /users -> Online users: alice, bob, charlie
			bob > /groups_users -> Groups:
			charlie > /create_group zoo -> Group zoo created.
			bob > /create_group ark -> Group ark created.
			alice > /join_group zoo -> You joined the group zoo.; charlie < alice has joined the group zoo.
			bob > /groups_users -> Groups: |   ark: bob |   zoo: alice, charlie
			bob > /leave_group ark -> You left the group ark.
			bob > /groups_users -> Groups: |   zoo: alice, charlie
			bob > /join_group ark -> Error: group ark does not exist. To start it: /create_group ark`},
		{"help", `
			alice in
			alice > /help -> /msg <username> <message> | /broadcast <message> | /create_group <group>
			alice < /join_group <group> | /leave_group <group> | /group_msg <group> <message> | /users
			alice < /groups_users | /help | /quit or /exit`},
		{"refusals", `
			alice,bob in
			alice > /msg bob -> Error: usage: /msg <username> <message>
			alice > /broadcast\x20 -> Error: usage: /broadcast <message>
			alice > /create_group -> Error: usage: /create_group <group> (one word)
			alice > /create_group two words -> Error: usage: /create_group <group> (one word)
			alice > /join_group -> Error: usage: /join_group <group>
			alice > /leave_group -> Error: usage: /leave_group <group>
			alice > /group_msg cs -> Error: usage: /group_msg <group> <message>
			alice > hello, bob -> Error: hello, is not a command. For a list of commands: /help
			alice > / -> Error: / is not a command. For a list of commands: /help
			alice > /msgbob hi -> Error: /msgbob is not a command. For a list of commands: /help
			alice > /msg bob ` + rep(`y`, 1015) + ` -> Message sent to bob.; bob < [alice]: ` + rep(`y`, 1015) + `
			alice > /msg bob ` + rep(`y`, 1016) + ` -> Error: a message may not be longer than 1024 bytes.
			alice > ` + rep(`y`, 3000) + ` -> Error: a message may not be longer than 1024 bytes.`},
		{"leaving and coming back", `
			alice,bob,charlie,david in
			bob > /create_group cs -> Group cs created.
			charlie > /create_group ark -> Group ark created.
			bob > /exit -> Goodbye! | END; alice,charlie,david < bob has left the chat.
			charlie resets; alice,david < charlie has left the chat.
			david half-closes -> END; alice < david has left the chat.
			alice > /groups_users -> Groups:
			bob in
			bob > /msg david there? -> Error: david is not online. To see who is: /users
			alice > /msg bob there? -> Message sent to bob.; bob < [alice]: there?`},
		{"login", `
			alice in
			a opens -> Enter username:; a > alice -> Enter password:
			a > password123 -> Authentication failed: alice is logged in already. | END
			b opens -> Enter username:; b > bob -> Enter password:
			b > qwerty45 -> Authentication failed: wrong user name or password. | END
			c opens -> Enter username:; c > carol -> Enter password:
			c > qwerty456 -> Authentication failed: wrong user name or password. | END
			d opens -> Enter username:; d half-closes -> Authentication failed: no user name within 30 seconds. | END
			e opens -> Enter username:; e > bob -> Enter password:
			e half-closes -> Authentication failed: no password within 30 seconds. | END
			alice > /users -> Online users: alice
			david in`},
	})
	playAll(t, []string{"lines"}, [][2]string{
		{"lines at once and in pieces", `
			x opens; x >> alice\r\npass; x pauses 20ms; x >> word123\r\n/us; x pauses 20ms; x >> ers\r\n
			x < Enter username: | Enter password: | Welcome to the chat server! | Online users: alice
			x >> \n\r\n\x20\n/msg alice a\n/users\n -> [alice]: a | Message sent to alice. | Online users: alice
			x >> ` + rep(`0123456789`, 100000) + `\n/users\n
			x < Error: a message may not be longer than 1024 bytes. | Online users: alice
			x >> /users\n/users; x half-closes -> Online users: alice | END
			y opens; y >> \n\n -> Enter username: | Enter password:
			y < Authentication failed: wrong user name or password. | END`},
		{"half a line", `
			alice,bob in
			alice >> /broadcast half; alice pauses 20ms; alice resets; bob < alice has left the chat.
			alice in; alice >> /broadcast half; alice half-closes -> END; bob < alice has left the chat.
			bob > /users -> Online users: bob`},
		{"much follows the end", `
			alice,bob in
			alice >> /quit\n` + rep(`/users\n`, 20000) + ` -> Goodbye! | END; bob < alice has left the chat.
			x opens; x >> alice\nwrong\n` + rep(`/users\n`, 20000) + `
			x < Enter username: | Enter password: | Authentication failed: wrong user name or password. | END
			y opens; y >> \x16\x03\x01` + rep(`\x00`, 100000) + `\n` + rep(`\xff`, 100000) + `\n
			y < Enter username: | Enter password: | Authentication failed: wrong user name or password. | END`},
		// Alice floods bob, who does not read. Nobody else writes to bob, but charlie, once. If others
		// had to wait for bob, they would hear that he has left before they hear their own answers.
		{"a client that does not read delays nobody", `
			alice,bob,charlie,david in; bob deaf
			alice >> ` + rep(`/msg bob `+rep("x", 1000)+`\n`, 1000) + `; alice pauses 300ms
			charlie > /msg david hi -> Message sent to david.; david < [charlie]: hi
			charlie > /broadcast hi -> Message sent to all.; david < [charlie][Broadcast]: hi
			david > /users -> Online users: alice, bob, charlie, david
			david > /create_group new -> Group new created.; david > /leave_group new -> You left the group new.
			5 opens -> Enter username:; 5 > u5 -> Enter password:; 5 > p5 -> Welcome to the chat server!
			charlie,david < u5 has joined the chat.
			5 > /msg david hi -> Message sent to david.; david < [u5]: hi
			5 > /quit -> Goodbye! | END; charlie,david < u5 has left the chat.
			5 opens -> Enter username:; 5 > u5 -> Enter password:; 5 > p5 -> Welcome to the chat server!
			charlie,david < u5 has joined the chat.; 5 > /users -> Online users: alice, bob, charlie, david, u5
			charlie,david,5 < bob has left the chat.; alice has bob has left the chat
			alice gone; charlie,david,5 < alice has left the chat.`},
		{"a client that asks and does not read", `
			alice,bob in; bob deaf
			alice >> ` + createGroups(60, 1000) + `; alice has 0059 created
			bob >> ` + rep(`/groups_users\n`, 250) + `/msg alice now\n; alice lacks now
			alice has bob has left the chat; alice gone`},
		// Alice and bob flood each other, and neither of them reads.
		{"two who flood each other", `
			alice,bob,charlie in; alice,bob deaf
			alice >> ` + rep(`/msg bob `+rep("x", 1000)+`\n`, 1500) + ` & bob >> ` + rep(`/msg alice `+rep("x", 1000)+`\n`, 1500) + `
			charlie has alice has left | bob has left; charlie gone`},
	})
	playAll(t, []string{"raw"}, [][2]string{
		{"commands in one read", `
			alice in
			alice >> /create_group a/create_group b -> Group a created. | Group b created.
			alice >> /msg alice x/MSG alice y/Users/msg alice z
			alice < [alice]: x | Message sent to alice. | [alice]: y/Users | Message sent to alice.
			alice < [alice]: z | Message sent to alice.
			alice > /msg alice see /msg bob x -> [alice]: see /msg bob x | Message sent to alice.
			alice > /msg alice a/users b -> [alice]: a/users b | Message sent to alice.
			alice > /msg alice docs/msg -> [alice]: docs/msg | Message sent to alice.`},
		{"a newline makes it a line client", `
			alice in; alice >> /msg alice x/msg alice y\n/msg alice half
			alice < [alice]: x/msg alice y | Message sent to alice.
			alice >> \n -> [alice]: half | Message sent to alice.
			alice gone`},
	})
}

// A recorder is a test that may fail.
type recorder struct {
	testing.TB
	failure string
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.failure = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// A row that makes no sense fails, and so does one that is not so.
func TestRows(t *testing.T) {
	t.Parallel()
	for _, tc := range [][2]string{
		{"carol in", "not a user"}, {"alice in now", "text"}, {"alice,alice in", "already"}, {"alice,,bob in", "no name"},
		{"3..1 in", "no range"}, {"1..x in", "no range"}, {"alice", "no verb"}, {"alice in; alice", "no verb"},
		{"alice in; alice say hello", "verb"}, {"alice in; alice in", "already"}, {"alice in; alice opens", "already"},
		{"alice > hello", "not connected"}, {"alice in; bob > hello", "not connected"}, {"alice in; alice >", "text"},
		{"alice in; alice pauses 300", "missing unit"}, {"alice in; alice deaf now", "text"}, {"alice in; alice <", "text"},
		{"alice in; alice > /users ->", "too early"}, {"alice in; alice > /users & ", "too early"},
		{"alice in; alice has (", "regular expression"}, {"alice in; alice has welcome | ", "too early"},
		{`alice in; alice > \q`, "escape"}, {"alice in; alice > /users -> Online users: bob", "hears \"Online users: alice\""},
		{"alice,bob in; bob > /msg alice hi -> Message sent to alice.", "hears \"[bob]: hi\""},
		{"alice in; alice lacks alice|welcome", "lacks alice|welcome"}, {"alice in; alice has carol", "has carol"},
		{"alice in; alice >> /quit\\n -> Goodbye! | ENDE", "hears \"END\""},
	} {
		t.Run(tc[0], func(t *testing.T) {
			t.Parallel()
			_, address := startServer(t, "")
			r := &recorder{TB: t}
			ended := make(chan bool)
			go func() {
				defer close(ended)
				converse(r, address, "lines", tc[0])
			}()
			<-ended
			message, _, shown := strings.Cut(r.failure, "\nrow: ")
			if !shown || !strings.Contains(message, tc[1]) || !strings.Contains(r.failure, "(main_test.go:") {
				t.Errorf("the row fails with %q, want %q", r.failure, tc[1])
			}
		})
	}
}

// ---- Starting and stopping ----------------------------------------------------------------------

// A server that cannot start prints one line that says why, and its exit status is 1.
func TestNotStarting(t *testing.T) {
	t.Parallel()
	_, used := startServer(t, "")
	for _, tc := range []struct{ usersFile, address, wrapper, want string }{
		{"\nalice:x\r\nbob\n", "127.0.0.1:0", "", "users.txt:3: want username:password"},
		{" \n:x\n", "127.0.0.1:0", "", "users.txt:2:"},
		{"alice:\n", "127.0.0.1:0", "", "users.txt:1:"},
		{"al ice:x\n", "127.0.0.1:0", "", "users.txt:1:"},
		{"alice:x\nbob:y\nalice:z", "127.0.0.1:0", "", "users.txt:3:"},
		{"alice:x\nbob:caf\xe9\n", "127.0.0.1:0", "", "users.txt:2:"},
		{"alice:x\rbob:y\r", "127.0.0.1:0", "", "users.txt:1:"},
		{"alice:x\x1b[A\n", "127.0.0.1:0", "", "users.txt:1:"},
		{"alice:x", "127.0.0.1:0", "rm users.txt;", "users.txt: no such file"},
		{"alice:x", "127.0.0.1:0", "echo > logs;", "logs"},
		{"alice:x", "12345", "", "missing port"},
		{"alice:x", used, "", "address already in use"},
	} {
		p := launch(t, serverCommand(t, tc.wrapper, tc.usersFile, tc.address))
		if !p.endsWithin(20 * time.Second) {
			t.Fatalf("with %q, the server starts", tc.usersFile)
		}
		said, status := string(p.output), p.ProcessState.ExitCode()
		if status != 1 || strings.Count(said, "\n") != 1 || !strings.Contains(said, tc.want) {
			t.Errorf("with %q: exit status %d and %q, want 1 and one line with %q", tc.usersFile, status, said, tc.want)
		}
	}
}

// 100,000 users, in a file from an editor on Windows. The password of the last one has a colon and a space.
func TestManyUsers(t *testing.T) {
	t.Parallel()
	file := bytes.NewBufferString("\ufeff")
	for i := range 100000 {
		fmt.Fprintf(file, "user%d:p: %[1]d\r\n\r\n", i)
	}
	p := launch(t, serverCommand(t, "", file.String(), "127.0.0.1:0"))
	c := newConversation(t, <-p.address, "lines")
	for _, i := range []int{0, 99999} {
		c.play(fmt.Sprintf("%[1]d opens -> Enter username:; %[1]d > user%[1]d -> Enter password:", i))
		c.play(fmt.Sprintf("%[1]d > p: %[1]d -> Welcome to the chat server!; %[1]d > /quit; %[1]d has Goodbye", i))
	}
	p.interrupt(t)
}

// The log tells who comes and who goes, on the console and in the file, but no secrets.
func TestLog(t *testing.T) {
	t.Parallel()
	p, address := startServer(t, "")
	c := converse(t, address, "lines", `
		w opens; w gone
		alice,bob in
		x opens -> Enter username:; x > secret -> Enter password:
		x > secret -> Authentication failed: wrong user name or password. | END
		y opens -> Enter username:; y > alice -> Enter password:
		y > password123 -> Authentication failed: alice is logged in already. | END
		alice > /msg bob secret -> Message sent to bob.; bob < [alice]: secret
		alice > /quit -> Goodbye! | END; bob < alice has left the chat.`)
	c.play("bob gone")
	got := p.interrupt(t)
	file, err := os.ReadFile(p.Dir + "/logs/" + time.Now().Format(time.DateOnly) + ".log")
	if err != nil || string(file) != got {
		t.Errorf("the console has\n%s\nand the file has (%v)\n%s", got, err, file)
	}
	info, _ := os.Stat(p.Dir + "/logs/" + time.Now().Format(time.DateOnly) + ".log")
	if info.Mode() != 0o600 {
		t.Errorf("the log file has the mode %v", info.Mode())
	}
	got = regexp.MustCompile(`\d{4}/\d\d/\d\d \d\d:\d\d:\d\d `).ReplaceAllString(got, "")
	got = regexp.MustCompile(`127\.0\.0\.1:\d+`).ReplaceAllString(got, "ADDRESS")
	lines := strings.Split(strings.TrimSpace(got), "\n")
	slices.Sort(lines) // logging out and logging in are logged by different goroutines
	want := []string{
		"INFO alice logged in from ADDRESS", "INFO alice logged out from ADDRESS", "INFO bob logged in from ADDRESS",
		"INFO bob logged out from ADDRESS", "INFO serving on ADDRESS", "INFO shutting down",
		"WARN login failed from ADDRESS: alice is logged in already",
		"WARN login failed from ADDRESS: wrong user name or password"}
	if !slices.Equal(lines, want) {
		t.Errorf("the log has\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
}

// After Ctrl-C, the goodbye is everybody's last line, whatever is going on. Half a command is not
// carried out. Charlie begins to read only then.
func TestStopping(t *testing.T) {
	t.Parallel()
	p, address := startServer(t, "")
	c := converse(t, address, "lines", "alice,bob,charlie in; 1..5 in; charlie deaf")
	charlie := c.peers["charlie"]
	c.play("bob >> /broadcast half; alice >> " + strings.Repeat("/msg charlie "+strings.Repeat("x", 1000)+`\n`, 1000))
	c.play("x opens -> Enter username:; 5 has fence")
	for i := 1; i <= 5; i++ {
		flood(c.peers[strconv.Itoa(i)], "/msg u1 hello\n/users\n")
	}
	c.play("1 has u5]: hello")
	p.Process.Signal(os.Interrupt)
	said, err := io.ReadAll(charlie.conn)
	if err != nil || !strings.HasSuffix(string(said), "\nServer is shutting down.\n") {
		t.Errorf("charlie hears at last %.200q (%v)", said[max(0, len(said)-200):], err)
	}
	c.play(`1..5 has server is shutting down\.\nend$; alice,bob has server is shutting down\.\nend$; 1..5 lacks half`)
	p.interrupt(t)
}

// flood lets a client type lines without end, until its connection ends.
func flood(p *peer, lines string) {
	p.conn.SetWriteDeadline(time.Time{})
	go func() {
		var err error
		for err == nil {
			_, err = io.WriteString(p.conn, lines)
		}
	}()
}

// Ctrl-C ends the server in time, although a client is stuck. SIGHUP does not end a server of nohup.
func TestStoppingStuck(t *testing.T) {
	t.Parallel()
	p, address := startServer(t, "trap '' HUP;")
	c := converse(t, address, "lines", "alice,bob in; bob deaf")
	p.Process.Signal(syscall.SIGHUP)
	c.play("alice >> " + strings.Repeat("/msg bob "+strings.Repeat("x", 1000)+`\n`, 1000) + "; alice has sent to bob; alice pauses 300ms")
	if got := p.interrupt(t); !strings.Contains(got, "INFO shutting down") {
		t.Errorf("the server has ended without Ctrl-C")
	}
}

// A silent stranger is disconnected after 30 s.
func TestLoginTimeout(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 30 s")
	}
	t.Parallel()
	_, address := startServer(t, "")
	c := newConversation(t, address, "lines")
	c.play("x,y opens -> Enter username:; y > alice -> Enter password:; x pauses 25s; x lacks failed")
	c.play("x < Authentication failed: no user name within 30 seconds. | END")
	c.play("y < Authentication failed: no password within 30 seconds. | END")
}

// The client shows what the server says, and ends with it. Its exit status tells how.
func TestClient(t *testing.T) {
	t.Parallel()
	client := t.TempDir() + "/client"
	out, err := exec.Command("go", "build", "-o", client, "./client").CombinedOutput()
	if err != nil {
		t.Fatalf("go build ./client: %v\n%s", err, out)
	}
	_, address := startServer(t, "")
	ask, listener := "Enter username: Enter password: ", listen(t)
	go func() { // a server that breaks its connections; ends with the listener
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
		}
	}()
	for _, tc := range []struct{ address, typed, want, status string }{
		{address, "alice\npassword123\n/users\n/quit\n", ask + "Welcome to the chat server!\nOnline users: alice\nGoodbye!\n", "exit status 0"},
		{address, "alice\npassword123\n/users\n", ask + "Welcome to the chat server!\nOnline users: alice\n", "exit status 0"},
		{address, "alice\nwrong\n", ask + "Authentication failed: wrong user name or password.\n", "exit status 0"},
		{listener.Addr().String(), "alice\n", "the connection broke: ", "exit status 1"},
		{"127.0.0.1:1", "", "cannot connect; is the server running? ", "exit status 1"},
	} {
		cmd := exec.Command(client, tc.address)
		cmd.Stdin = strings.NewReader(tc.typed)
		output, _ := cmd.CombinedOutput()
		shown, status := string(output), cmd.ProcessState.String()
		if status != tc.status || !strings.HasPrefix(shown, tc.want) || status == "exit status 0" && shown != tc.want {
			t.Errorf("after %q: %q and %s, want %q and %s", tc.typed, output, status, tc.want, tc.status)
		}
	}
}

// listen returns a listener that is closed at the end of the test.
func listen(t testing.TB) net.Listener {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener
}

// ---- Slow clients and many clients --------------------------------------------------------------

// readSlowly reads what a deaf client should have heard: 160 KB a second, until it ends with these words.
func (p *peer) readSlowly(end string) string {
	var heard []byte
	piece := make([]byte, 16<<10)
	for !bytes.HasSuffix(heard, []byte(end)) {
		n, err := io.ReadFull(p.conn, piece)
		heard = append(heard, piece[:n]...)
		if err != nil && !bytes.HasSuffix(heard, []byte(end)) {
			p.fail("%s hears %d bytes, at last %.200q (%v)", p.name, len(heard), heard[max(0, len(heard)-200):], err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	return string(heard)
}

// A client that reads slowly, but does not stop, loses nothing, although it takes longer than the 5 s
// that one write may take. Charlie comes and goes while bob's queue is full: bob hears it in order.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	_, address := startServer(t, "")
	c := converse(t, address, "lines", "alice,bob in; bob deaf")
	bob, text := c.peers["bob"], strings.Repeat("x", 1000)
	want := ""
	for i := range 1200 {
		want += fmt.Sprintf("[alice]: %04d %s\n", i, text)
	}
	go io.WriteString(c.peers["alice"].conn, strings.ReplaceAll(want, "[alice]:", "/msg bob")+"/quit\n")
	c.play("alice pauses 300ms")
	for range 2 {
		c.play(`x opens; x >> charlie\nsecure789\n/quit\n; x has Goodbye!; x gone`)
	}
	notices, messages := "", ""
	for _, line := range strings.SplitAfter(bob.readSlowly("alice has left the chat.\n"), "\n") {
		if strings.HasPrefix(line, "charlie") {
			notices += line
		} else {
			messages += line
		}
	}
	const once = "charlie has joined the chat.\ncharlie has left the chat.\n"
	if notices != once+once || messages != want+"alice has left the chat.\n" {
		c.fail("bob hears of charlie %q, and from alice %d bytes, want %d", notices, len(messages), len(want))
	}
}

// A long reply, and then the goodbye, arrive although the client reads slowly.
func TestLongReply(t *testing.T) {
	t.Parallel()
	_, address := startServer(t, "")
	c := converse(t, address, "lines", "alice,bob in")
	c.play("alice >> " + createGroups(1500, 800) + `; alice has 1499 created; bob deaf; bob >> /groups_users\n/quit\n`)
	if got := strings.Count(c.peers["bob"].readSlowly("\nGoodbye!\n"), ": alice\n"); got != 1500 {
		c.fail("bob hears of %d groups, want 1500", got)
	}
}

// createGroups returns commands that create groups with names of this length.
func createGroups(groups, length int) (commands string) {
	for i := range groups {
		commands += fmt.Sprintf(`/create_group %0*d\n`, length, i)
	}
	return commands
}

// Bob asks for help without end, and reads 15 KB a second, for 6 s. So his replies pile up. Alice, who
// writes to him and to charlie, must not have to wait: then bob would have left before she has done.
func TestSlowFlooder(t *testing.T) {
	t.Parallel()
	_, address := startServer(t, "")
	c := converse(t, address, "lines", "alice,bob in; bob deaf")
	bob := c.peers["bob"]
	flood(bob, "/help\n")
	go func() {
		piece := make([]byte, 15<<10)
		for range 6 {
			bob.conn.Read(piece)
			time.Sleep(time.Second)
		}
		bob.conn.Close()
	}()
	c.play("alice pauses 2s") // until his replies have filled what they can
	for range 20 {
		c.play("alice > /broadcast hello -> Message sent to all.")
	}
	c.play("alice < bob has left the chat.")
}

// Everybody types every command at once: nobody is lost, and the race detector finds nothing. Two users
// broadcast at the same time: all hear the same lines in the same order.
func TestCrowd(t *testing.T) {
	t.Parallel()
	_, address := startServer(t, "")
	c := converse(t, address, "lines", "1..20 in")
	for i := 1; i <= 20; i++ {
		p := c.peers[strconv.Itoa(i)]
		go io.WriteString(p.conn, strings.Repeat(everyCommand, 20)+"/msg u"+p.name+" done\n")
	}
	for i := 1; i <= 20; i++ {
		c.play(fmt.Sprintf("%d has u%[1]d]: done", i))
	}
	const lines = 1000
	for _, name := range []string{"1", "2"} {
		p := c.peers[name]
		go func() {
			for i := range lines {
				fmt.Fprintf(p.conn, "/broadcast order %d\n", i)
			}
		}()
	}
	order := ""
	for _, name := range []string{"3", "4", "5"} {
		heard := ""
		for n := 0; n < 2*lines; {
			line := c.peers[name].line()
			if strings.Contains(line, "order") {
				heard += line + "\n"
				n++
			}
		}
		if order != "" && heard != order {
			c.fail("%s hears another order than 3", name)
		}
		order = heard
	}
}

// Of many who want the same name at the same time, one gets it.
func TestAtOnce(t *testing.T) {
	t.Parallel()
	for _, tc := range [][3]string{
		{`1..20 opens -> Enter username:; 1..20 >> alice\npassword123\n; 1..20 < Enter password:`,
			"Welcome to the chat server!", "Authentication failed: alice is logged in already."},
		{"1..20 in; 1..20 > /create_group cs",
			"Group cs created.", "Error: group cs exists already. To join it: /join_group cs"},
	} {
		_, address := startServer(t, "")
		c, answers := newConversation(t, address, "lines"), map[string]int{}
		c.play(tc[0])
		for _, p := range c.peers {
			answers[p.line()]++
		}
		if answers[tc[1]] != 1 || answers[tc[2]] != 19 {
			c.fail("the answers are %v", answers)
		}
	}
}

// While others write to bob, he quits and comes back: the goodbye is his last line, and when he reads it,
// he can log in again.
func TestQuit(t *testing.T) {
	t.Parallel()
	_, address := startServer(t, "")
	c := converse(t, address, "lines", "1..3 in")
	for _, p := range c.peers {
		flood(p, "/msg bob hello\n/broadcast hello\n/users\n")
	}
	for range 100 {
		c.play(`bob opens; bob >> bob\nqwerty456\n/users\n/quit\n; bob has welcome | goodbye!\nend$; bob gone`)
	}
}

// A server with few descriptors runs out of them, and goes on. After 300 lives, half of them broken off,
// no descriptor, no name and no group is left.
func TestLives(t *testing.T) {
	t.Parallel()
	p, address := startServer(t, "ulimit -n 40;")
	c := newConversation(t, address, "lines")
	c.play("1..60 opens; 60 pauses 100ms; 1..60 gone; alice in")
	for first := 1; first <= 300; first += 10 {
		for i := first; i < first+10; i++ {
			c.play(fmt.Sprintf(`%[1]d opens
				%[1]d >> u%[1]d\np%[1]d\n/create_group all\n/join_group all\n/create_group g%[1]d\n/groups_users\n`, i))
		}
		for i := first; i < first+10; i++ {
			end := `resets`
			if i%2 == 0 {
				end = `> /quit; %[1]d has Goodbye!; %[1]d gone`
			}
			c.play(fmt.Sprintf("%[1]d has Groups:.*g%[1]d: u%[1]d; %[1]d "+end, i))
		}
		c.play(fmt.Sprintf("alice has (left the chat.*){%d}", first+9))
	}
	c.play(`alice > /groups_users; alice has \nGroups:\n$; alice > /users; alice has \nOnline users: alice\n$`)
	if !strings.Contains(p.interrupt(t), "too many open files") {
		t.Errorf("there were descriptors enough")
	}
}

// Whatever alice sends, bob hears only clean lines that begin with her name, and the server lives.
func FuzzAlice(f *testing.F) {
	for _, seed := range []string{
		"/msg bob hi\n/broadcast hi\r\n/group_msg cs hi\n/leave_group cs\n/quit\n/msg bob again\n",
		"/msg bob x\r[charlie]: y\x1b[2J\u0085\u2028\xff\x00\n\n", "/msg bob a/msg bob b/group_msg cs c/join_group d",
		strings.Repeat("/msg bob x", 2000), strings.Repeat("x", 4095) + "\n/msg bob hi", "/msg bob\n[charlie]: hi",
	} {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	clean := regexp.MustCompile(`^(\[alice\]|alice has )[^\x00-\x08\x0a-\x1f\x7f]*$`)
	_, address := startServer(f, "")
	f.Fuzz(func(t *testing.T, said string, raw bool) {
		kind := "lines"
		if raw {
			kind = "raw"
		}
		c := converse(t, address, kind, `
			bob in; bob > /create_group cs -> Group cs created.
			alice in; alice > /join_group cs -> You joined the group cs.; bob < alice has joined the group cs.`)
		alice := c.peers["alice"].conn
		go func() {
			io.WriteString(alice, said)
			alice.CloseWrite()
		}()
		for line := ""; line != "alice has left the chat."; {
			line = c.peers["bob"].line()
			if !clean.MatchString(line) {
				c.fail("bob hears %q", line)
			}
		}
		c.play("bob > /users -> Online users: bob; bob > /quit -> Goodbye! | END")
	})
}

// ---- Grading ------------------------------------------------------------------------------------

var (
	addr    = flag.String("addr", "", "TestAssignment: the server is at this `address`")
	command = flag.String("exec", "", "TestAssignment: start the server by this `command` for each case, at 127.0.0.1:12345")
	dir     = flag.String("dir", ".", "TestAssignment: the `folder` for -exec")
	hurry   = flag.Bool("hurry", false, "TestAssignment: type as fast as the course did")
)

const (
	answerTime = 250 * time.Millisecond // a server that has not answered by then does not answer
	loginTime  = 5 * time.Second        // the same for the prompts and the verdict
)

// courseTexts are the texts of the course, and how its replies are recognized.
var courseTexts = strings.NewReplacer(
	"T1", "On 20 December 2004, £26.5 million was stolen from the Northern Bank in Belfast, Northern Ireland",
	"T2", "Having taken family members of two bank officials hostage, an armed gang forced the workers to help them steal banknotes.",
	"T3", "It was one of the largest bank robberies in the United Kingdom.",
	"T4", "The police and the British and Irish governments claimed that the Provisional Irish Republican Army was responsible, which was denied.",
	"REFUSAL", "fail|error|exist|not",
)

// What several cases share.
const (
	four   = "1..4 in; "
	groups = "1 in; 1 > /create_group CS427; 2 in; 2 > /create_group CS428; 3 in; 3 > /create_group CS429; 4 in; 4 > /create_group CS430; "
	toAll4 = "5 in; 5 > /join_group CS427; 5 > /join_group CS428; 5 > /join_group CS429; 5 > /join_group CS430; "
	toU234 = "1 > /msg u2 T1; 1 > /msg u3 T2; 1 > /msg u4 T3; "
	to427  = "2 > /group_msg CS427 T1; 2 > /group_msg CS427 T2; 2 > /group_msg CS427 T3; 2 > /group_msg CS427 T4; "
	all425 = "1 > /create_group CS425; 2..4 > /join_group CS425; "
)

// A gradedCase is a conversation that earns marks.
type gradedCase struct {
	name  string
	marks float64
	rows  string
}

// assignment returns the cases of the course. In the last two, the course typed much at the same time.
func assignment() []gradedCase {
	together := "; "
	if *hurry {
		together = " & "
	}
	var create36, join36, has36a, has36b, user37, pass37, msg37, has37 string
	for i := range 1000 {
		create36 += fmt.Sprintf("1 > /create_group CS_u1_%[1]d%s2 > /create_group CS_u2_%[1]d; ", i, together)
		join36 += fmt.Sprintf("1 > /join_group CS_u2_%[1]d%s2 > /join_group CS_u1_%[1]d; ", i, together)
		has36a += fmt.Sprintf(" | CS_u2_%d", i)
		has36b += fmt.Sprintf(" | CS_u1_%d", i)
	}
	for i := 51; i <= 100; i++ {
		user37 += fmt.Sprintf("%d > u%[1]d; ", i)
		pass37 += fmt.Sprintf("%d > /exit & %[1]d gone%s%d > p%[3]d; ", i-50, together, i)
		if i < 100 {
			msg37 += fmt.Sprintf("%d > /msg u%d Hello to u%[2]d; ", i, i+1)
			has37 += fmt.Sprintf("%d has Hello to u%[1]d; ", i+1)
		}
	}
	return []gradedCase{
		{"01_login", 1, "1 in; 1 has welcome"},
		{"02_login_wrong", 1, "1 opens; 1 > alice; 1 > 123; 1 has failed|error"},
		{"03_msg_offline", 1, "1 in; 1 > /msg bob Hello; 1 has no"},
		{"04_msg", 1, "1,2 in; 1 > /msg u2 Hello World!; 2 has Hello World!"},
		{"05_broadcast", 1, four + "1 > /broadcast T1; 2..4 has T1"},
		{"06_create", 1, "1 in; 1 > /create_group IITK; 1 has creat"},
		{"07_create_twice", 1, "1 in; 1 > /create_group IITK; 1 > /create_group IITK; 1 has welcome | REFUSAL"},
		{"08_join", 1, "1,2 in; 1 > /create_group CS425; 2 > /join_group CS425; 2 has join"},
		{"09_join_missing", 1, "1,2 in; 1 > /create_group CS425; 2 > /join_group CS888; 2 has welcome | REFUSAL"},
		{"10_group_msg", 1, "1,2 in; 1 > /create_group CS425; 2 > /join_group CS425; 1 > /group_msg CS425 T1; 2 has T1"},
		{"11_group_msg_missing", 1, "1,2 in; 1 > /create_group CS425; 1 > /group_msg CS888 T1; 1 has welcome | REFUSAL"},
		{"12_leave", 1, "1,2 in; 1 > /create_group CS425; 2 > /join_group CS425; 2 > /leave_group CS425; 2 has left"},
		{"13_group_msg_after_leave", 1, "1,2 in; 1 > /create_group CS425; 2 > /join_group CS425; 2 > /leave_group CS425; 2 > /group_msg CS425 T1; 2 has welcome | REFUSAL"},
		{"14_exit_and_return", 1.5, "1,2 in; 1 > /msg u2 T1; 2 > /exit & 2 gone; 3 in; 4 opens; 4 > u2; 4 > p2; 1 > /msg u2 T2; 4 has welcome | T2"},
		{"15_msg_to_three", 1.5, four + toU234 + "2..4 has welcome; 2 has T1; 3 has T2; 4 has T3"},
		{"16_msg_chain", 1.5, four + "1 > /msg u2 T1; 2 > /msg u3 T2; 3 > /msg u4 T3; 4 > /msg u1 T4; 1..4 has welcome; 2 has T1; 3 has T2; 4 has T3; 1 has T4"},
		{"17_msg_both_ways", 1.5, "1,2 in; 1 > /msg u2 T1; 2 > /msg u1 T2; 1,2 has welcome; 2 has T1; 1 has T2"},
		{"18_broadcast_come_and_go", 1.5, four + "1 > /broadcast T1; 5 in; 1 > /broadcast T2; 1 > /exit & 1 gone; 2 > /broadcast T3; " +
			"1..4 has welcome; 2..4 has T1; 2..5 has T2; 3..5 has T3; 1 lacks T3"},
		{"19_broadcast_by_four", 1.5, four + "1 > /broadcast T1; 2 > /broadcast T2; 3 > /broadcast T3; 4 > /broadcast T4; " +
			"1..4 has welcome; 2,3,4 has T1; 1,3,4 has T2; 1,2,4 has T3; 1,2,3 has T4"},
		{"20_create_four", 1.5, four + "1 > /create_group CS425; 1 > /create_group CS426; 1 > /create_group CS427; 1 > /create_group CS428; " +
			"1 has welcome | CS425 | CS426 | CS427 | CS428"},
		{"21_create_by_three", 1.5, four + "1 > /create_group CS425; 1 > /create_group CS426; 2 > /create_group CS427; 2 > /create_group CS428; " +
			"3 > /create_group CS429; 3 > /create_group CS430; 1 has welcome | CS425 | CS426; 2 has CS427 | CS428; 3 has CS429 | CS430"},
		{"22_join_four", 1.5, four + "2 > /create_group CS427; 2 > /create_group CS428; 3 > /create_group CS429; 3 > /create_group CS430; " +
			strings.ReplaceAll(toAll4[6:], "5 >", "1 >") + "1 has welcome | CS427 | CS428 | CS429 | CS430"},
		{"23_join_by_four", 1.5, "1 in; 1 > /create_group CS427; 2..5 in; 2..5 > /join_group CS427; 1..5 has welcome; 2..5 has CS427"},
		{"24_group_msg_by_stranger", 1.5, "1 in; 1 > /create_group CS427; 2..5 in; " + to427 + "1..5 has welcome; 1 has CS427; 1 lacks T1 | T2 | T3 | T4"},
		{"25_group_msg_by_member", 1.5, "1 in; 1 > /create_group CS427; 2..5 in; 2 > /join_group CS427; " + to427 + "1..5 has welcome; 1 has CS427 | T1 | T2 | T3 | T4"},
		{"26_group_msg_to_four", 1.5, groups + toAll4 + "5 > /group_msg CS427 T1; 5 > /group_msg CS428 T2; 5 > /group_msg CS429 T3; 5 > /group_msg CS430 T4; " +
			"1..5 has welcome; 1 has CS427 | T1; 2 has CS428 | T2; 3 has CS429 | T3; 4 has CS430 | T4"},
		{"27_group_msg_by_four", 1.5, groups + "5 in; 2..5 > /join_group CS427; 2 > /group_msg CS427 T1; 3 > /group_msg CS427 T2; " +
			"4 > /group_msg CS427 T3; 5 > /group_msg CS427 T4; 1..5 has welcome; 1 has CS427 | T1 | T2 | T3 | T4"},
		{"28_leave_two_of_four", 1.5, groups + toAll4 + "5 > /leave_group CS427; 5 > /leave_group CS428; " +
			`1..5 has welcome; 1 has CS427; 5 has left.*\n.*left; 5 lacks left.*\n.*left.*\n.*left`},
		{"29_leave_by_four", 1.5, groups + "5 in; 2..5 > /join_group CS427; 2..5 > /leave_group CS427; 1..5 has welcome; 1 has CS427; 2..5 has left"},
		{"30_leave_two_groups", 1.5, groups + "5 in; 2,3 > /join_group CS427; 4,5 > /join_group CS428; 2,3 > /leave_group CS427; " +
			"4,5 > /leave_group CS428; 1..5 has welcome; 1 has CS427; 2..5 has left"},
		{"31_msg_and_broadcast", 2.5, groups + toU234 + "2 > /broadcast T4; 1..4 has welcome; 2 has T1; 3 has T2; 4 has T3; 1,3,4 has T4"},
		{"32_msg_then_group", 2.5, four + toU234 + all425 + "2 > /group_msg CS425 T4; 2 > /leave_group CS425; " +
			"1..4 has welcome; 1 has CS425; 2 has T1; 3 has T2; 4 has T3; 2..4 has join; 1,3,4 has T4; 2 has left"},
		{"33_broadcast_then_group", 2.5, four + "1 > /broadcast T1; " + all425 + "2 > /group_msg CS425 T4; 2 > /leave_group CS425; " +
			"1..4 has welcome; 1 has CS425; 2..4 has T1 | join; 1,3,4 has T4; 2 has left"},
		{"34_group_and_msg", 2.5, four + all425 + toU234 + "2 > /group_msg CS425 T4; 2 > /leave_group CS425; " +
			"1..4 has welcome; 1 has CS425; 2 has T1; 3 has T2; 4 has T3; 2..4 has join; 1,3,4 has T4; 2 has left"},
		{"35_broadcast_and_wrong_join", 2.5, four + "1 > /create_group CS425; 2 > /broadcast  T1; 3 > /join_group CS888; 2 > /broadcast  T2; " +
			"3 > /join_group CS425; 2 > /broadcast  T3; 1..4 has welcome; 1 has CS425; 1,3,4 has T1 | T2 | T3; 3 has join | REFUSAL"},
		{"36_1000_groups_each", 4.5, four + create36 + join36 + "1 has welcome" + has36a + "; 2 has welcome" + has36b + "; 1,2 lacks REFUSAL"},
		{"37_50_leave_50_come", 4.5, "1..50 in; 51..100 opens; " + user37 + pass37 + msg37 + has37},
	}
}

// TestAssignment grades a server: this one, the one at -addr, or the one that -exec starts. Its users must
// include u1:p1 to u100:p100.
//
//	go test -run TestAssignment . -exec ./server_grp -dir path/to/submission
//
// It plays the cases with raw clients, at leisure: before each row it waits for answers (see pause). With
// -hurry, a client that goes on typing does not wait, so the server may find two lines in one read.
func TestAssignment(t *testing.T) {
	cases := assignment()
	passed := make([]bool, len(cases))
	t.Cleanup(func() {
		marks, most := 0.0, 0.0
		for i, tc := range cases {
			most += tc.marks
			if passed[i] {
				marks += tc.marks
			}
		}
		fmt.Printf("marks: %g of %g\n", marks, most)
	})
	silent := false // the server has said nothing in a whole case
	for i, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			if silent {
				t.Fatal("not played: in an earlier case, the server did not start, or said nothing")
			}
			rows := courseTexts.Replace(tc.rows)
			if *command == "" && *addr == "" {
				t.Parallel()
				_, address := startServer(t, "")
				newConversation(t, address, "graded").play(rows)
				passed[i] = true
				return
			}
			c := newConversation(t, "127.0.0.1:12345", "graded")
			defer func() { silent = len(c.story) == 0 }()
			if *command != "" {
				launchGraded(t)
			} else {
				c.address = *addr
				rows = courseTexts.Replace(others(tc.rows, i))
			}
			c.play(rows)
			passed[i] = true
		})
	}
}

// launchGraded starts the server of -exec. It tries again if the server ends at once: without
// SO_REUSEADDR, its port is blocked for a minute after the case before.
func launchGraded(t *testing.T) {
	words := strings.Fields(*command)
	for begin := time.Now(); time.Since(begin) < 70*time.Second; {
		listener, err := net.Listen("tcp", "127.0.0.1:12345")
		if err != nil {
			t.Fatalf("the port is taken, perhaps by a process that the server has left behind: %v", err)
		}
		listener.Close()
		cmd := exec.Command(words[0], words[1:]...)
		cmd.Dir = *dir
		p := launch(t, cmd)
		if !p.endsWithin(500 * time.Millisecond) {
			return
		}
	}
	t.Fatal("the server ends at once")
}

// pause is the wait before a graded row: until everybody who has typed has heard something, or has waited
// long enough, and then until it is quiet. With -hurry, a client that goes on typing waits 10 ms.
func (c *conversation) pause(who string) {
	p := c.peers[c.names(who)[0]]
	goesOn := who == c.before && p != nil && p.typed > 2
	c.before = who
	if *hurry && goesOn {
		time.Sleep(10 * time.Millisecond)
		return
	}
	answered := func() bool {
		for _, p := range c.peers {
			if p.ended == "" && time.Now().Before(p.until) {
				return false
			}
		}
		return true
	}
	for !c.wait(time.Millisecond, answered) {
	}
	if *command == "" && *addr == "" {
		return // this server answers with one write
	}
	late := time.Now().Add(answerTime)
	c.wait(10*time.Millisecond, func() bool { return time.Now().After(late) })
}

// acknowledge tells the server's system at once that all has arrived. Otherwise a server that sends two
// lines may hold the second one back for 40 ms (Nagle's algorithm). Only Linux can do this.
func (p *peer) acknowledge() {
	const quickAck = 12 // TCP_QUICKACK
	raw, err := p.conn.SyscallConn()
	if err == nil && runtime.GOOS == "linux" {
		raw.Control(func(fd uintptr) { syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, quickAck, 1) })
	}
}

// others puts other groups and users into the rows of case i, because a server at -addr remembers the
// cases before. Client 1 becomes client 6, and u1 becomes u6, for example.
func others(rows string, i int) string {
	rows = regexp.MustCompile(`\b(CS\w+|IITK)\b`).ReplaceAllString(rows, fmt.Sprintf("${0}_%d_%d", os.Getpid(), i))
	shift := 5 * i % 90 // 0 in the last case, which needs all 100 users
	return regexp.MustCompile(`\b[up]?\d+\b`).ReplaceAllStringFunc(rows, func(word string) string {
		letter := strings.TrimRight(word, "0123456789")
		number, _ := strconv.Atoi(word[len(letter):])
		return fmt.Sprint(letter, number+shift)
	})
}

// ---- Benchmark ----------------------------------------------------------------------------------

// BenchmarkFanOut: one of 100 clients broadcasts, 100 lines at a time. The floor is a bare loop that
// writes the same bytes to the same number of connections.
func BenchmarkFanOut(b *testing.B) {
	const batch = 100
	b.Run("server", func(b *testing.B) {
		_, address := startServer(b, "")
		c := converse(b, address, "lines", "1..100 in; 1..100 deaf")
		said := bytes.Repeat([]byte("/broadcast the quick brown fox jumps over the lazy dog\n"), batch)
		c.fanOut(b, batch, func() { c.peers["1"].conn.Write(said) })
	})
	b.Run("floor", func(b *testing.B) {
		listener := listen(b)
		c := converse(b, listener.Addr().String(), "lines", "1..100 opens; 1..100 deaf")
		var far []net.Conn
		for range c.peers {
			conn, err := listener.Accept()
			if err != nil {
				b.Fatal(err)
			}
			far = append(far, conn)
		}
		heard := bytes.Repeat([]byte("[u1][Broadcast]: the quick brown fox jumps over the lazy dog\n"), batch)
		c.fanOut(b, batch, func() {
			for _, conn := range far {
				conn.Write(heard)
			}
		})
	})
}

// fanOut says b.N lines, in batches. It waits until each batch has come to everybody; the speaker hears
// the replies.
func (c *conversation) fanOut(b *testing.B, batch int, say func()) {
	var arriving sync.WaitGroup
	for _, p := range c.peers {
		go func() { // ends with the connection
			buffer := make([]byte, 64<<10)
			for {
				n, err := p.conn.Read(buffer)
				if err != nil {
					return
				}
				arriving.Add(-bytes.Count(buffer[:n], []byte("\n")))
			}
		}()
	}
	b.ResetTimer()
	for i := 0; i < b.N; i += batch {
		arriving.Add(batch * len(c.peers))
		say()
		arriving.Wait()
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N*len(c.peers))/b.Elapsed().Seconds(), "deliveries/s")
	arriving.Add(1 << 20) // for the notices at the end
}

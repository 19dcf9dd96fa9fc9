// A chat server over TCP in one file: users log in and write to each other, to groups or to all.
//
//	go run .                   serve users.txt of this folder on 127.0.0.1:12345
//	go run . <host:port>       the same elsewhere; ":12345" opens it to the network
//	go run ./client            talk to it; nc 127.0.0.1 12345 does as well
//
// What a user can type once logged in:
//
//	/msg <username> <message>          /users                /help
//	/broadcast <message>               /groups_users         /quit or /exit
//	/create_group <group>              /join_group <group>
//	/group_msg <group> <message>       /leave_group <group>
//
// Two goroutines serve each client. Its session reads commands and carries them out; its writer
// takes lines from the client's queue and writes them. Every session may put lines into every
// queue:
//
//	alice's socket --> session(alice) --+--> queue(alice) --> writer(alice) --> alice's socket
//	                                     \ /
//	                                      X
//	                                     / \
//	bob's socket ----> session(bob) ----+--> queue(bob) ----> writer(bob) ----> bob's socket
//
// So a client that is slow to read keeps its own writer waiting, and nobody else until its queue
// is full.
//
// One idea serves for all else: who can be written to is kept in groups. Some are made by users.
// One that the server makes holds everyone online, and one for each user holds just that user.
// The names of these begin with a blank, so that nobody can type them.
//
// Six rules keep this safe. The code cites them by number where it depends on them:
//
//	R1  server.mu guards server.groups. Nothing that can wait happens while it is held: no
//	    read, no write, no channel, no log line. A wait under it would stop everybody.
//	R2  What a list of members holds never changes: who joins is appended behind its end, and
//	    who leaves is left out of a copy. So whoever got a list under the lock may go through
//	    it, and wait, without the lock. The price: a line may still reach who has just left.
//	R3  Only its session reads a connection. Only its session writes to it before the client
//	    is logged in, and only its writer after that: two at once could mix their lines.
//	R4  A queue is never closed, because many send to it. The writer ends at an empty string,
//	    not even a newline, or when it cannot write. Then it closes the channel client.done;
//	    what comes later is lost. Who waits for room in a queue waits for done too.
//	R5  Only its own session puts a client into groups and takes it out; only stop does
//	    otherwise, and deletes the group of all. Whoever else is done with a client makes it
//	    unreadable, by closing its connection or with a deadline in the past, and the session
//	    cleans up.
//	R6  Who leaves is out of all groups first, then announced, and only then is the name free.
//	    Nobody hears of a name's next session before the end of the last.
//
// The file follows a client from its connection to what it can say:
//
//	limits and types             what is kept, and the table where a new command begins
//	starting and stopping        main, loadUsers, serve, stop, the log
//	the life of a connection     handle, login, chat: who may come in, and who closes it
//	from bytes to messages       receive: where a message ends
//	from messages to sockets     send, write: who waits for whom
//	who is in which group        members, add, remove: nearly every use of the lock
//	commands                     execute and a function for each: how they are refused
//
// Left out, and marked SHORTCUT where it would go: queues that count bytes, encryption, hashed
// passwords, a limit to the connections of a stranger, an order of messages that all receivers
// agree on, messages for users who are not online, a limit to the number of groups.
package main

import (
	"bufio"
	"log"
	"net"
	"sync"

	// What those four cannot do. Each is here for a requirement:
	"os"        // the users file, the log file, the command line
	"os/signal" // Ctrl-C stops the server politely
	"slices"    // lists of members, and lists in order
	"strconv"   // numbers in replies
	"strings"   // taking messages apart
	"syscall"   // SIGTERM stops it, too
	"time"      // deadlines
)

const (
	// The limits each say what a tenth and what ten times as much would do.

	// maxMessage, in bytes without the line end, is the limit that the assignment sets. With a
	// tenth, people could not say a sentence or two; ten times as much would make a reader's
	// buffer, which holds two messages, the largest thing that a client costs.
	maxMessage = 1024

	// maxGroupName, in bytes, is short because every message to a group repeats its name to each
	// member, and every list of groups to each who asks. A tenth would not take "CS425-A1"; a
	// name of ten times as much could fill most of a message.
	maxGroupName = 64

	// queueLength, in lines, is how far a client may fall behind before others wait for it. With
	// a tenth, they wait at every hiccup, and fewer lines come together in one Write; ten times
	// as much is 20 KB of memory that each client has but hardly any needs. SHORTCUT: a list of
	// all groups counts as one line, however long it is. A real server counts bytes.
	queueLength = 256

	// maxBatch, in bytes, is where the writer stops collecting lines. With a tenth, a busy client
	// costs more system calls; with ten times as much hardly fewer, and its writer keeps the
	// memory of its longest batch as long as the client stays.
	maxBatch = 32 << 10

	everyone = " "        // the group of all who are online; it is there until the server stops
	goodbye  = "Goodbye!" // the reply that ends a session
)

// A server is what all sessions share. It is a value in main, not a set of global variables, so
// that the tests can run many at once.
type server struct {
	// Set before the first connection and never again, so that all may read it.
	passwords map[string]string // by user name
	log       *log.Logger
	commands  []command

	// How long to wait. These are fields, not constants, so that the tests can be impatient.
	//
	// loginTimeout is for a login. In a tenth nobody can type that much; in ten times as long,
	// strangers who say nothing pile up.
	//
	// slowTimeout is for a client to take what is written to it. A tenth is a hiccup of the
	// network; ten times as long, its friends would wait for it.
	//
	// pause is between the question for a password and the answer to a wrong one; how long the
	// rest of a raw client's password may take; and between two tries to accept. A tenth is ten
	// times as many guesses; ten times as long punishes a slip of the finger.
	loginTimeout, slowTimeout, pause time.Duration

	mu     sync.RWMutex         // guards groups (R1)
	groups map[string][]*client // members by name (R2); an empty list is a group, nil is none
}

// A client is one connection, from the first prompt to the last byte. Its fields are grouped by
// who may use them, and that is all that keeps them safe: no lock guards a client.
type client struct {
	conn *net.TCPConn // never changed
	name string       // set in the login, before anybody else can find the client

	// Only the session uses these.
	in     *bufio.Reader
	lines  bool            // whether a newline has come (see receive)
	groups map[string]bool // the groups that it is in

	queue chan *string  // lines for the writer, with their newlines; they never change (R4)
	done  chan struct{} // closed when the writer has ended (R4)
}

// A command is a row of the table in newServer: how it is typed, and the function that carries it
// out. name and text begin with a blank, so that word+name+text is the usage line.
type command struct {
	word, name, text, help string // "/msg", " <username>", " <message>"; name or text may be missing
	member                 bool   // only for members of the group that is named
	run                    func(c *client, name, text string) (reply string)
}

// newServer returns a server that is ready to serve. The table in it has all commands: a new one
// is a row here and a function beside quit. /help shows the rows in this order, and execute
// refuses what does not fit a row, so that a function always has the arguments that its row
// names.
func newServer(passwords map[string]string, logger *log.Logger) *server {
	s := &server{passwords: passwords, log: logger, groups: map[string][]*client{everyone: {}}}
	s.loginTimeout, s.slowTimeout, s.pause = 30*time.Second, 5*time.Second, time.Second
	s.commands = []command{
		{"/msg", " <username>", " <message>", "write to one user", false, s.private},
		{"/broadcast", "", " <message>", "write to all who are online", false, s.broadcast},
		{"/create_group", " <group>", "", "start a group, with you in it", false, s.createGroup},
		{"/join_group", " <group>", "", "become a member", false, s.joinGroup},
		{"/leave_group", " <group>", "", "leave it; it ends with its last member", true, s.leaveGroup},
		{"/group_msg", " <group>", " <message>", "write to the other members", true, s.groupMessage},
		{"/users", "", "", "who is online", false, s.listUsers},
		{"/groups_users", "", "", "all groups and who is in them", false, s.listGroups},
		{"/help", "", "", "this list", false, s.help},
		{"/quit", "", "", "leave the chat", false, s.quit},
		{"/exit", "", "", "the same", false, s.quit},
	}
	return s
}

// ---- Starting and stopping ----------------------------------------------------------------------
//
// main puts the parts together: users from a file, a listener, a goroutine that accepts
// connections, and a signal that ends it all. What goes wrong before the first client can come
// ends the program, for somebody is there to read why. What goes wrong later is logged, and the
// chat goes on.

// main serves until SIGINT or SIGTERM, then has two seconds to say goodbye. The port is the one
// that the assignment fixes. The exit status is 0 after a signal, 1 if the server could not
// start, and 2 if it did not understand the command line. (go run has an exit status of its own.)
func main() {
	args := append(os.Args, "127.0.0.1:12345") // without an argument, args[1] is this: not on the network
	if _, _, err := net.SplitHostPort(args[1]); err != nil || len(os.Args) > 2 {
		os.Stderr.WriteString("usage: go run . [host:port]\n")
		os.Exit(2)
	}
	logger := log.New(&dailyFile{}, "", log.LstdFlags)
	s := newServer(loadUsers("users.txt", logger), logger)
	listener, err := net.Listen("tcp", args[1]) // SHORTCUT: crypto/tls has a Listen, too, that encrypts
	if err != nil {
		logger.Fatalf("ERROR cannot start: %v", err)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go s.serve(listener) // ends when stop closes the listener
	logger.Printf("INFO serving %d users on %v", len(s.passwords), listener.Addr())
	logger.Printf("INFO stopping: %v", <-signals)
	time.AfterFunc(2*time.Second, func() { os.Exit(0) })
	s.stop(listener)
}

// loadUsers returns the passwords by user name, from the file that the assignment describes: a
// line of username:password for each user. The first colon divides, so a password may hold
// colons, and blanks; blank lines are nothing. Where a line is wrong it ends the program and says
// which: a user left out silently would be missed much later, and looked for in the wrong place.
// Some editors put a mark, U+FEFF, in front of a file; it is no part of the first name.
//
// SHORTCUT: the passwords are in plain text, because the assignment's file is. A real server
// keeps a slow, salted hash of each.
func loadUsers(path string, logger *log.Logger) map[string]string {
	data, err := os.ReadFile(path)
	if err != nil {
		logger.Fatalf("ERROR cannot load the users: %v", err)
	}
	passwords := map[string]string{}
	for i, line := range strings.Split(strings.TrimPrefix(string(data), "\ufeff"), "\n") {
		switch name, password, _ := strings.Cut(strings.TrimSuffix(line, "\r"), ":"); {
		case strings.TrimSpace(line) == "": // nothing to do
		case !validName(name) || strings.TrimSpace(password) == "" || passwords[name] != "":
			logger.Fatalf("ERROR %s:%d: want username:password; each name once, and without blanks, [ or ];"+
				" no password that is empty or blank", path, i+1)
		default:
			passwords[name] = password
		}
	}
	return passwords
}

// serve starts a session for each connection. It waits in Accept, and holds no lock. The group of
// all who are online is there until stop deletes it and closes the listener; Accept then fails,
// and serve ends. Any other error of Accept is most likely a lack of file descriptors. They come
// back when clients leave, so serve tries again after a pause: without one it would spin, and
// fill the disk with its log.
func (s *server) serve(listener net.Listener) {
	for s.members(everyone) != nil {
		if conn, err := listener.Accept(); err == nil {
			go s.handle(conn.(*net.TCPConn)) // ends when the connection does
		} else if s.members(everyone) != nil {
			s.log.Printf("ERROR cannot accept, will try again in %v: %v", s.pause, err)
			time.Sleep(s.pause)
		}
	}
}

// stop deletes the group of all who are online: without it, add lets nobody in and serve ends. It
// tells those who were in it, ends their sessions, and returns when all their lines are written.
// It takes the lock for the deletion only. A client that does not read can keep it waiting, but
// no longer than main allows. Sessions that it did not come to by then end with the program.
func (s *server) stop(listener net.Listener) {
	s.mu.Lock()
	clients := s.groups[everyone]
	delete(s.groups, everyone)
	s.mu.Unlock()
	listener.Close()
	s.send("Server is shutting down.\n", clients...)
	for _, c := range clients {
		c.conn.SetReadDeadline(time.Now()) // ends the session (R5)
		<-c.done
	}
}

// A dailyFile is what the log is written to: the console, and one file a day in the folder logs.
// A line about a client tells what happened to whom, and from which address. None holds a
// password or a message.
type dailyFile struct{ file *os.File }

// Write writes a line of the log. Only log.Logger calls it, under a mutex of its own, so this
// type needs none. The line begins with its date, 2006/01/02, and belongs to the file of that
// date even if the clock has moved on. Yesterday's file closes itself when it is garbage. An
// error is not reported: there is nobody to report it to but this log.
func (d *dailyFile) Write(line []byte) (int, error) {
	path := "logs/" + strings.ReplaceAll(string(line[:len(time.DateOnly)]), "/", "-") + ".log"
	if d.file == nil || d.file.Name() != path {
		os.Mkdir("logs", 0o755)
		d.file, _ = os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	}
	d.file.Write(line) // without a file, or on a full disk, the console has to do: the chat goes on
	return os.Stderr.Write(line)
}

// ---- The life of a connection -------------------------------------------------------------------
//
// A connection goes through login, chat and end, and its session, the goroutine of handle, leads
// it through all three. The session alone closes a connection in the regular way, at the end of
// handle. Four others cut one off, and leave the rest to its session (R5): the timer in login,
// when nobody logs in; write, when the client does not read; send, when it has been waited for
// long enough; and stop, which only ends the reading.

// handle is the session of one connection. The buffer that it reads through takes twice the
// longest message: a line that does not fit is too long for certain, and what a raw client glues
// together mostly fits.
//
// In the end it reads, and throws away, what the client still sends, until the client closes its
// side or slowTimeout is over. A socket that is closed with unread bytes in it resets the
// connection, and the last lines, although written, may never reach the client.
func (s *server) handle(conn *net.TCPConn) {
	c := &client{conn: conn, in: bufio.NewReaderSize(conn, 2*maxMessage), groups: map[string]bool{}}
	c.queue, c.done = make(chan *string, queueLength), make(chan struct{})
	if s.login(c) {
		s.chat(c)
	}
	conn.CloseWrite()
	conn.SetReadDeadline(time.Now().Add(s.slowTimeout))
	c.in.Discard(1 << 30)
	conn.Close()
}

// login asks for user name and password, as the assignment wants it, and reports whether the
// client is in. The client then has its name: a group of that name, which only one client can
// create. So add, not login, sees to it that nobody is in twice. login waits for the client, but
// at most for loginTimeout, after which the connection is closed. It may write to the connection,
// because the writer does not run yet (R3).
//
// It cannot know yet whether this is a line client, which ends its messages with newlines, or a
// raw one, which sends none (see receive), so it tries both. As long as no newline has come, the
// first piece is the name, and all behind it the password. If they match, the client is in. If
// not, more of a line may be under way; they are wrong only when nothing more has come for pause.
// With the first newline, all that came before it is the name, and the next line the password.
//
// A wrong password is answered, at the earliest, when pause is over since it was asked for:
// guessing must be slow. A wrong name is treated alike in words and time, or one could try out
// which names exist. It is not logged: what was typed there may be a password.
//
// SHORTCUT: a stranger may guess on many connections at once. A real server counts them by
// address.
func (s *server) login(c *client) bool {
	defer time.AfterFunc(s.loginTimeout, func() { c.conn.Close() }).Stop() // runs from here to the return
	c.conn.Write([]byte("Enter username: "))
	text, err := s.receive(c)
	first, asked := len(text), time.Now()
	c.conn.Write([]byte("Enter password: "))
	for err == nil && !c.lines && len(text) < maxMessage && !s.knows(text[:first], text[first:]) {
		piece, failed := s.receive(c)
		text, err = text+piece, failed
		c.conn.SetReadDeadline(time.Now().Add(s.pause))
	}
	c.conn.SetReadDeadline(time.Time{})
	name, password, reason := text[:first], text[first:], ""
	if c.lines {
		name = strings.TrimSuffix(text, "\r")
		password, _ = s.receive(c)
	}
	// Before anybody can find this queue, so that nothing overtakes it. After a refusal there is
	// no writer, and nobody sees it.
	s.send("Welcome to the chat server!\n", c)
	if c.name = name; s.knows(name, password) {
		if _, free := s.add(c, " "+name, false); free {
			return true
		}
		reason = ": " + name + " is logged in already"
	} else if s.passwords[name] == "" {
		name = "an unknown user"
	}
	s.log.Printf("WARN login of %s from %v failed%s", name, c.conn.RemoteAddr(), reason)
	time.Sleep(time.Until(asked.Add(s.pause)))
	c.conn.Write([]byte("Authentication failed" + reason + ".\n"))
	return false
}

// knows reports whether this is the password of that user. No user has an empty password, so a
// name that is not in the map, which then yields "", matches nothing.
func (s *server) knows(name, secret string) bool { return secret != "" && s.passwords[name] == secret }

// chat carries out a client's commands until it quits, its connection ends, or the server stops.
// It returns when the client is out of the chat, its name is free, and all its lines are written.
// It waits for the client's next command, and, as send does, for receivers; it takes the lock to
// free the name. An error of receive needs no report: whatever it is, the client can say no more.
//
// The order is what counts here. Coming: first into the group of all; only then the writer
// starts, and with it the welcome, and the others are told. Whoever sees the welcome can be sure
// to miss nobody, and to be missed by nobody. Leaving: out of all groups, then the others are
// told, then the name is free (R6).
//
// A client that comes when the server is stopping is welcomed, but the chat is not open any more,
// and it is out again at once.
func (s *server) chat(c *client) {
	s.log.Printf("INFO %s logged in from %v", c.name, c.conn.RemoteAddr())
	others, open := s.add(c, everyone, true) // before the writer: who sees the welcome is in
	go s.write(c)                            // ends with the empty string below, or a failed write (R4)
	s.send(c.name+" has joined the chat.\n", others...)
	for message, reply, err := "", "", error(nil); open && err == nil && reply != goodbye; {
		message, err = s.receive(c)
		if reply = s.execute(c, message); reply != "" { // a blank message, or none, has no reply
			s.send(reply+"\n", c)
		}
	}
	others = s.remove(c, everyone)
	for group := range c.groups {
		s.remove(c, group)
	}
	s.log.Printf("INFO %s logged out from %v", c.name, c.conn.RemoteAddr())
	s.send(c.name+" has left the chat.\n", others...)
	s.mu.Lock()
	delete(s.groups, " "+c.name) // empty since the loop above, and there only to keep the name (R6)
	s.mu.Unlock()
	s.send("", c)
	<-c.done
}

// ---- From bytes to messages ---------------------------------------------------------------------
//
// TCP carries a stream of bytes and knows nothing of messages: what was written at once may come
// in pieces, or glued to what was written before. Where a message ends is for both sides to agree
// on, which is called framing. Two kinds of clients come here:
//
//	line clients     end each message with a newline, as nc, telnet and the client folder do;
//	                 then the pieces do not matter
//	raw clients      send no newlines, as the course's own client does, and trust in luck:
//	                 what one read brings has to pass for a message, or for several
//
// Who has sent a newline is a line client for good. Until then a client is taken for a raw one.

// receive waits for the client's next message and returns it without its line end. It needs no
// lock, for only the session calls it (R3). The error is that of the connection. If the client
// has closed its side, the message may still be one, whose newline never came. If the connection
// broke or was cut off there is none: half a line, "/msg bob I do not agr", is not what its
// sender meant to say.
//
// A line that is longer than the buffer of c.in comes back as its beginning, which is too long to
// be accepted. The rest is thrown away as it comes and takes no memory.
func (s *server) receive(c *client) (string, error) {
	if !c.lines {
		_, err := c.in.Peek(1) // one read, unless something is left of the last
		seen, _ := c.in.Peek(c.in.Buffered())
		if c.lines = strings.Contains(string(seen), "\n"); !c.lines {
			first := s.firstCommand(string(seen))
			c.in.Discard(len(first))
			return first, err
		}
	}
	line, err := c.in.ReadSlice('\n')
	text := strings.TrimSuffix(strings.TrimSuffix(string(line), "\n"), "\r")
	for err == bufio.ErrBufferFull {
		_, err = c.in.ReadSlice('\n')
	}
	if _, broken := err.(net.Error); broken {
		text = ""
	}
	return text, err
}

// firstCommand returns the first of the commands in text that a raw client sent and TCP glued
// together, as in "/create_group a/create_group b". Another command begins where the word of one
// that takes arguments, with a blank behind it, follows a character that is no blank. A message
// that has such a place in it is cut in two: that cannot be told apart, and is what newlines are
// for.
func (s *server) firstCommand(text string) string {
	for i := 1; i < len(text); i++ {
		for _, cmd := range s.commands {
			end := i + len(cmd.word)
			if cmd.name+cmd.text != "" && end < len(text) && strings.EqualFold(text[i:end], cmd.word) &&
				strings.TrimSpace(text[i-1:i]) != "" && strings.TrimSpace(text[end:end+1]) == "" {
				return text[:i]
			}
		}
	}
	return text
}

// visible maps control characters, but for the tab, to U+FFFD: on somebody's terminal they could
// clear the screen or forge a line. strings.Map, which calls it for each character, does the same
// to bytes that are not UTF-8. A mark that can be seen makes a name invalid; leaving the
// character out would make it another name.
func visible(r rune) rune {
	if r < ' ' && r != '\t' || 0x7f <= r && r <= 0x9f {
		return '\uFFFD'
	}
	return r
}

// validName reports whether a user or a group may have this name. It is typed as one word, so it
// has no blanks, and stands between brackets in front of messages, so a bracket in it could forge
// one.
func validName(name string) bool {
	return name != "" && strings.Map(visible, name) == name && !strings.ContainsAny(name, " \t[]\uFFFD")
}

// ---- From messages to sockets -------------------------------------------------------------------
//
// Between a message and the sockets stand the queues. If a session wrote to its receivers itself,
// one of them that does not read would stop it, and two sessions that write to one receiver would
// have to take turns. So a session only puts the line into queues, send, and each client's writer
// empties its own, write.
//
// A queue has an end, or a client that never reads would take memory until there is none. What to
// do at the end is the question that every chat has to answer: drop the line, drop the client, or
// wait. A gap in a conversation, which nobody can see, is worse than either of the others. So a
// client that does not read is given up, in one of two ways: its writer closes the connection
// when one Write takes slowTimeout, and a sender that finds the queue full waits, but for
// slowTimeout at most, and then closes it. Either way its session sees the end and cleans up
// (R5). Only those who write to it wait. A client that takes a batch every few seconds is mostly
// not dropped, but it slows those who write to it.

// send puts a line into the queues of the receivers and returns how many took it. The caller must
// not hold the lock (R1). Lines of one session reach each receiver in the order sent. The text is
// in memory once, however many receive it; queues hold pointers, because a pointer takes half the
// room of a string.
//
// Where a queue is full, send waits, once all others have the line, but for slowTimeout in all,
// however many are full. Then it drops the clients whose queues still are (R5), and has to wait
// for their writers to notice, which they do at once. Mostly there is no need: by then the writer
// has made room, or has given its client up. Each client that is looked at when the time is over
// still gets a millisecond, because it may have room by now.
//
// SHORTCUT: two sessions that send at the same time may reach two receivers in different order. A
// real server gives each message a number, from one place.
func (s *server) send(line string, receivers ...*client) (sent int) {
	full, deadline := []*client{}, time.Now().Add(s.slowTimeout)
	for _, c := range receivers {
		select {
		case c.queue <- &line:
			sent++
		default:
			full = append(full, c)
		}
	}
	for _, c := range full {
		drop := time.AfterFunc(max(time.Until(deadline), time.Millisecond), func() { c.conn.Close() })
		select {
		case c.queue <- &line:
			sent++
		case <-c.done:
		}
		drop.Stop()
	}
	return sent
}

// write is the writer of a client, a goroutine (R3). It waits for lines, and for the client to
// take them. It puts the lines that are in the queue, until they are maxBatch or more, into one
// Write: the system call is what costs, and a call for many lines costs hardly more than a call
// for one. If a Write takes longer than slowTimeout, the client reads too slowly or not at all,
// and is dropped (R5): the session then finds its connection closed. If send has dropped it, the
// Write fails at once, as one on a closed connection. If only the last Write fails, the client
// was leaving anyway.
func (s *server) write(c *client) {
	defer close(c.done)
	for batch, last, err := []byte{}, false, error(nil); !last && err == nil; {
		line := <-c.queue
		last = *line == ""
		if batch = append(batch, *line...); !last && len(c.queue) > 0 && len(batch) < maxBatch {
			continue
		}
		c.conn.SetWriteDeadline(time.Now().Add(s.slowTimeout))
		if _, err = c.conn.Write(batch); err != nil && !last {
			s.log.Printf("WARN %s from %v dropped: %v", c.name, c.conn.RemoteAddr(), err)
			c.conn.Close()
		}
		batch = batch[:0]
	}
}

// ---- Who is in which group ----------------------------------------------------------------------
//
// This is all that the lock is for: a map from names to lists of clients, which every session
// looks at and changes. The lock is held to look something up or to put something in, never
// longer: here, and for a moment in stop, chat and listGroups. The lists that members, add and
// remove return may be kept as long as the caller likes (R2), which is why nobody ever has to
// write to a socket, or to a queue, under the lock.
//
// One lock is enough: it is held for a look into a map, and each message takes system calls,
// which cost many times that. It is a RWMutex because messages, which only look, are many, and
// joining and leaving are few.

// members returns who is in a group, and nil if there is no such group. It takes the lock for
// reading.
func (s *server) members(group string) []*client {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.groups[group]
}

// add puts a client into a group that exists or, with exists false, into a new one, and returns
// the other members. It reports false if the group is there and should not be, or the other way
// round; the look and the change are under one lock, so that of many who create a group at once,
// one does. Who is in already stays in, and nobody has to be told. It takes the lock.
//
// To append is safe under R2: only the newest list of a group is ever appended to, and a copy has
// an array of its own. So each place behind an end is written once, before anybody can see it.
func (s *server) add(c *client, group string, exists bool) (others []*client, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if others = s.groups[group]; c.groups[group] || (others != nil) != exists {
		return nil, c.groups[group] && exists
	}
	c.groups[group] = true
	s.groups[group] = append(others, c) // behind the end of others: who has that does not see it (R2)
	return others, true
}

// remove takes a client out of a group and returns the members that remain. With its last member,
// a group of users' making is gone, as the assignment wants it; the server's own stay, empty. It
// takes the lock, and writes its line of the log without (R1); under load, that line may come
// behind the one that tells of the group's next creation.
func (s *server) remove(c *client, group string) (others []*client) {
	delete(c.groups, group)
	s.mu.Lock()
	others = without(s.groups[group], c)
	if s.groups[group] = others; len(others) == 0 && group[0] != ' ' {
		delete(s.groups, group)
		defer s.log.Printf("INFO group %s is gone", group) // on return: the lock is free by then (R1)
	}
	s.mu.Unlock()
	return others
}

// without returns a copy of a list that lacks one client (R2). It costs time and memory for each
// member, at each message to a group, and keeps send from having to know who the sender is.
func without(members []*client, c *client) []*client {
	return slices.DeleteFunc(slices.Clone(members), func(m *client) bool { return m == c })
}

// ---- Commands -----------------------------------------------------------------------------------
//
// Each command is a function. It gets the client who typed it, a name and a text ("" where its
// row in newServer has none), and returns the reply. None may be called with the lock held; those
// that need it take it themselves. Those that write to others may wait as send does, and the
// counts in their replies are those of send: of queues that the message really went into.
//
// A refusal begins with "Error: " and has the word "not" or "exist" in it, or shows how the
// command is used. A reply to what worked has none of fail, error, exist, not, but for names that
// users chose. So programs, and the course's grading is one, can tell them apart.

// execute carries out one message and returns the reply; a blank message has none. It takes no
// lock and waits for what the command waits for. Here, and only here, what came from the network
// is made visible, so that no command has to think of it.
func (s *server) execute(c *client, message string) string {
	word, rest := cutWord(strings.TrimLeft(strings.Map(visible, message), " \t"))
	i := slices.IndexFunc(s.commands, func(cmd command) bool { return strings.EqualFold(cmd.word, word) })
	switch {
	case len(message) > maxMessage:
		return "Error: a message may not be longer than " + strconv.Itoa(maxMessage) + " bytes."
	case word == "":
		return ""
	case i < 0:
		return "Error: " + word + " is not a command. To write to all: /broadcast <message>. More: /help"
	}
	cmd, name, text := s.commands[i], "", rest
	if cmd.name != "" {
		name, text = cutWord(rest)
	}
	switch {
	case (name == "") != (cmd.name == "") || (text == "") != (cmd.text == ""):
		return "Error: usage: " + cmd.word + cmd.name + cmd.text
	case cmd.member && !c.groups[name]:
		return "Error: you are not a member of group " + name + ". To join it: /join_group " + name
	}
	return cmd.run(c, name, text)
}

// cutWord divides text behind its first word and the blanks that follow.
func cutWord(text string) (word, rest string) {
	rest = strings.TrimLeftFunc(text, func(r rune) bool { return r != ' ' && r != '\t' })
	return text[:len(text)-len(rest)], strings.TrimLeft(rest, " \t")
}

// private carries out /msg. The receiver is the only member of the group that holds his name, so
// a user who is not online and one who does not exist are the same: nobody to send to.
//
// SHORTCUT: a message to a user who is not online is refused. A real server keeps it for later.
func (s *server) private(c *client, name, text string) string {
	if s.send("["+c.name+"]: "+text+"\n", s.members(" "+name)...) == 0 {
		return "Error: " + name + " is not online. Who is: /users"
	}
	return "Message sent to " + name + "."
}

// broadcast carries out /broadcast: to all who are online but the sender.
func (s *server) broadcast(c *client, _, text string) string {
	sent := s.send("["+c.name+"][Broadcast]: "+text+"\n", without(s.members(everyone), c)...)
	return "Message sent to " + count(sent, "user") + "."
}

// groupMessage carries out /group_msg: to the members but the sender, who is one, or execute
// would have refused.
func (s *server) groupMessage(c *client, name, text string) string {
	sent := s.send("["+c.name+"][Group "+name+"]: "+text+"\n", without(s.members(name), c)...)
	return "Message sent to group " + name + " (" + count(sent, "member") + ")."
}

// createGroup carries out /create_group. The client that creates a group is in it.
//
// SHORTCUT: anybody may create any number of groups. A real server sets a limit.
func (s *server) createGroup(c *client, name, _ string) string {
	if !validName(name) || len(name) > maxGroupName {
		return "Error: not a name for a group: " + strconv.Itoa(maxGroupName) + " bytes at most, no [ or ]."
	}
	if _, ok := s.add(c, name, false); !ok {
		return "Error: group " + name + " exists already. To join it: /join_group " + name
	}
	s.log.Printf("INFO group %s created by %s from %v", name, c.name, c.conn.RemoteAddr())
	return "Group " + name + " created."
}

// joinGroup carries out /join_group. To join again is no error, and the others are not told
// again. A message to the group may come before the reply.
func (s *server) joinGroup(c *client, name, _ string) string {
	if others, ok := s.add(c, name, true); ok {
		s.send(c.name+" has joined the group "+name+".\n", others...)
		return "You joined the group " + name + "."
	}
	return "Error: group " + name + " does not exist. To start it: /create_group " + name
}

// leaveGroup carries out /leave_group. Who has left is out before the others are told.
func (s *server) leaveGroup(c *client, name, _ string) string {
	s.send(c.name+" has left the group "+name+".\n", s.remove(c, name)...)
	return "You left the group " + name + "."
}

// listUsers carries out /users.
func (s *server) listUsers(*client, string, string) string {
	return "Online users " + list(s.members(everyone))
}

// listGroups carries out /groups_users. Its lines go into the queue as one, so that nothing comes
// between. It takes the lock for reading, for as long as it takes to write them down: the map,
// unlike the lists in it, changes.
func (s *server) listGroups(*client, string, string) string {
	var lines []string
	s.mu.RLock()
	for group, members := range s.groups {
		if group[0] != ' ' {
			lines = append(lines, "\n  "+group+" "+list(members))
		}
	}
	s.mu.RUnlock()
	slices.Sort(lines)
	return "Groups (" + strconv.Itoa(len(lines)) + "):" + strings.Join(lines, "")
}

// help carries out /help: a line for each row of the table.
func (s *server) help(*client, string, string) (lines string) {
	for _, cmd := range s.commands {
		lines += cmd.word + cmd.name + cmd.text + " - " + cmd.help + "\n"
	}
	return strings.TrimSuffix(lines, "\n")
}

// quit carries out /quit and /exit: chat ends at this reply.
func (s *server) quit(*client, string, string) string { return goodbye }

// list returns the number of members and their names in order: "(2): alice, bob".
func list(members []*client) string {
	names := make([]string, len(members))
	for i, c := range members {
		names[i] = c.name
	}
	slices.Sort(names)
	return "(" + strconv.Itoa(len(names)) + "): " + strings.Join(names, ", ")
}

// count returns a number of things: "1 user", "2 users". A map that lacks a key gives "".
func count(n int, what string) string {
	return strconv.Itoa(n) + " " + what + map[bool]string{true: "s"}[n != 1]
}

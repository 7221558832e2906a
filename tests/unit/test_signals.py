import queue
import signal
import threading

import pytest

from dvc_parallel import signals


@pytest.mark.skipif(
    not hasattr(signal, "pthread_kill"), reason="signals are for the process there"
)
def test_a_signal_that_another_thread_gets_wakes_the_main_thread():
    inbox = queue.SimpleQueue()

    def get_signal():
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    def wake():
        inbox.put(None)

    for _ in range(20):
        with signals.as_events(inbox.put, pytest.fail, wake):
            thread = threading.Thread(target=get_signal)
            thread.start()
            # NOTE: in any order
            assert {inbox.get(timeout=30), inbox.get(timeout=30)} == {
                signal.SIGTERM,
                None,
            }
            thread.join()
    assert signal.set_wakeup_fd(-1) == -1

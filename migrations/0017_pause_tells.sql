-- Whoever counts paused queues is told at once: before, a process that was idle showed a pause only
-- after its next wake-up.
create or replace function ops.pause_queue(name text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if coalesce(name, '') !~ '^[A-Za-z0-9._-]{1,64}$' then
        raise exception 'that is no name of a queue: 1 to 64 letters, digits, dots, dashes and underscores'
            using errcode = 'invalid_parameter_value';
    end if;
    if not exists (select from queue.jobs where queue = name) then
        raise notice 'no live job is in the queue %: check its name', name;
    end if;
    insert into queue.paused (queue) values (name) on conflict on constraint paused_pkey do nothing;
    if not found then
        return false;
    end if;
    perform pg_notify('growth_chat', concat_ws(E'\n', 'ops', 'q ' || name));
    return true;
end $$;

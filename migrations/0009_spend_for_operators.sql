-- What the model costs, for operators.

create view ops.spend as
select day, model, sum(calls)::bigint as calls,
       sum(input_tokens)::bigint as input_tokens, sum(output_tokens)::bigint as output_tokens,
       sum(cache_write_tokens)::bigint as cache_write_tokens, sum(cache_read_tokens)::bigint as cache_read_tokens,
       sum(cost_usd) as cost_usd,
       sum(sum(cost_usd)) over (partition by date_trunc('month', day) order by day
                                range unbounded preceding) as month_to_date_usd
from spend_days
group by day, model;
comment on view ops.spend is
    'What the model was billed for, by UTC day and model. Of erased sessions too. month_to_date_usd: what all models cost from the first of the month to the end of the day.';

create view ops.spend_now as
with clock as (
    select now() at time zone 'utc' as utc
), spent as (
    select coalesce(sum(cost_usd) filter (where day = utc::date), 0) as today,
           coalesce(sum(cost_usd), 0) as month
    from clock left join spend_days on day >= date_trunc('month', utc)::date
), reserved as (
    select coalesce(sum(cost_usd), 0) as cost, count(*) as calls
    from spend_reservations
    where expires_at > now()
)
select today as today_usd, month as month_usd,
       cost as reserved_usd, calls as reserved_calls,
       (date_trunc('day', utc) + interval '1 day') at time zone 'utc' as day_ends_at,
       (date_trunc('month', utc) + interval '1 month') at time zone 'utc' as month_ends_at
from clock, spent, reserved;
comment on view ops.spend_now is
    'What was spent in the UTC day and month so far, and the most that calls which are under way can add. While a cap is enforced, a call is admitted if what was spent and what is reserved is below it; nothing is reserved while none is.';

-- The role may read every view of the schema; these are new.
do $$
begin
    if exists (select from pg_roles where rolname = 'growth_chat_operator') then
        perform ops.grant_operator();
    end if;
end $$;
